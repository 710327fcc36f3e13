"""Run the project's tools in forks of one process that has loaded the toolboxes, and kill them at chosen points.

A new Python loads torch and the toolboxes for seconds, most of what a short run takes; a fork has a process of its own
all the same, with its own folder, exit status and death.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300
# What a program asks of a file system, as Python's audit hooks report it; "open" is counted for writing only.
CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}


@dataclass(frozen=True)
class Kill:
    """When a run is killed.

    Attributes:
        change: at the change of the file system of this number, from 1, below the run's folder; None for none.
        seconds: this long after it, or after the start.
    """

    change: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit status (negative for a signal), what it printed, its seconds and number of changes."""

    status: int
    said: str
    seconds: float
    changes: int


def run(folder: Path, *command: object, kill: Kill | None = None, largest: int | None = None) -> Ended:
    """Run a tool, ``command`` being its path below the repository and its arguments, in ``folder``.

    Args:
        kill: when to kill it; None for not at all.
        largest: bytes that a file may have, as if the disk were full then; None for no limit.

    Raises:
        TimeoutError: it has not ended after TIMEOUT_S seconds.
    """
    folder = Path(folder)
    counter = multiprocessing.Value("l", 0, lock=False)
    handle, output = tempfile.mkstemp(prefix="output-")  # not in the folder, whose disk may be full
    os.close(handle)
    arguments = [str(ROOT / str(command[0])), *map(str, command[1:])]
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_become, args=(arguments, folder, output, kill, largest, counter))
    start = time.monotonic()
    process.start()
    process.join(TIMEOUT_S)
    seconds, status = time.monotonic() - start, process.exitcode
    with contextlib.suppress(ProcessLookupError):  # its data workers, if any are left
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
    said = Path(output).read_text(errors="replace")
    os.unlink(output)
    if status is None:
        raise TimeoutError(f"{' '.join(arguments)} has not ended after {TIMEOUT_S} s: {said[-2000:]}")
    return Ended(status, said, seconds, counter.value)


def _become(arguments, folder, output, kill, largest, counter):
    """Become the process of one tool."""
    os.setsid()
    torch.set_num_threads(1)
    multiprocessing.set_start_method(None, force=True)  # its data workers start as those of any program
    file = os.open(output, os.O_WRONLY | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.stdout, sys.stderr = (open(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
    os.chdir(folder)
    sys.argv[:], sys.path[0] = arguments, str(Path(arguments[0]).parent)
    _count(str(folder), kill, counter)
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    if kill and kill.change is None:
        _die_after(kill.seconds)
    sys.exit(_main(arguments[0]))


def _main(path):
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _count(folder, kill, counter):
    """Count the changes of the file system below ``folder``, and die at the one that ``kill`` names."""

    def hook(event, values):
        if event not in CHANGES or not values or not isinstance(values[0], (str, os.PathLike)):
            return
        if event == "open" and not values[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if not os.path.abspath(values[0]).startswith(folder):
            return
        counter.value += 1
        if kill and counter.value == kill.change:
            _die_after(kill.seconds)

    sys.addaudithook(hook)


def _die_after(seconds):
    def die():
        time.sleep(seconds)
        os.killpg(0, signal.SIGKILL)  # its data workers with it

    if seconds:
        threading.Thread(target=die, daemon=True).start()
    else:
        die()
