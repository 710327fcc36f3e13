"""What a program says of failures that come from outside it: a full disk, a killed process, a silent network."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial

import torch.distributed as dist

from ..errors import chain
from ..files import free_space, in_words, out_of_space

_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: ([\w ]+)|exited)")
# What gloo, NCCL and torch's store say when another process is gone or silent.
_LOST = re.compile(
    r"(?:Connection closed by peer|Connection reset by peer|Timed out waiting \d+ms|Broken pipe|Socket closed"
    r"|recvBytes failed|failed to recv|wait timeout after \d+ms|Timed out after \d+ seconds|ncclRemoteError"
    r"|NCCL communicator was aborted|[Cc]ollective operation timeout)[^\n]{0,60}"
)
PR_SET_PDEATHSIG = 1
AGAIN = "run the same command again (a training: with --resume)"


def full_disk(error: BaseException) -> str | None:
    """Return a sentence for an error that says that a disk is full, or None for another error."""
    if not out_of_space(error):
        return None
    name = next((str(e.filename) for e in chain(error) if isinstance(e, OSError) and e.filename), None)
    free = in_words(free_space(os.path.dirname(name) if name else "."))
    return (
        f"{name or 'a file'} cannot be written: no space is left on its disk or in its quota ({free} free, more "
        f"needed); checkpoints and results from before are whole: delete something and {AGAIN}"
    )


def settled(error: BaseException) -> BaseException:
    """Return ``error``, or what a signal raises a moment later: a data-loader worker that died may be the cause.

    After that, no such signal raises anything.
    """
    try:
        if isinstance(error, (EOFError, ConnectionError)):  # of its pipe
            time.sleep(1)
        _ignore_dead_workers()
    except RuntimeError as later:
        _ignore_dead_workers()
        return later
    return error


def _ignore_dead_workers() -> None:
    with suppress(AttributeError, ValueError):  # Windows has no such signal, and other threads set none
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def dead_worker(error: BaseException) -> str | None:
    """Return a sentence for an error that says that a data-loader worker died, or None for another error."""
    found = [_WORKER.search(str(e)) for e in chain(error) if isinstance(e, RuntimeError)]
    found = sorted(filter(None, found), key=lambda one: one.group(2) is None)  # one that names the signal first
    if not found:
        return None
    pid, how = found[0].group(1), (found[0].group(2) or "").strip().rstrip(".")
    if how.startswith("Bus"):
        return (
            f"data-loader worker {pid} died (bus error): the shared memory, /dev/shm, is full; lower "
            f"train_dataloader.num_workers or enlarge it (docker: --shm-size), and {AGAIN}"
        )
    why = "the system kills a process when memory runs out" if how in ("Killed", "") else "its own message is above"
    return (
        f"data-loader worker {pid} died ({how or 'it was killed or ended by itself'}): {why}; lower num_workers or "
        f"batch_size of the data loaders, or free memory, and {AGAIN}"
    )


def lost_process(error: BaseException) -> str | None:
    """Return a sentence for an error that says that another process of the run is gone, or None for another error."""
    if not dist.is_available() or not ("RANK" in os.environ or dist.is_initialized()):
        return None
    for e in chain(error):
        found = _LOST.search(str(e)) if isinstance(e, (RuntimeError, ConnectionError)) else None
        if found:
            return (
                f"rank {os.environ.get('RANK', '?')} has lost the other processes ({found.group().strip()}): one of "
                "them died (out of memory?), its node or the network is down, or it was silent for longer than "
                f"env_cfg.dist_cfg.timeout; see what the others say, and {AGAIN}"
            )
    return None


@lru_cache(maxsize=1)
def end_together() -> None:
    """Make the system end this process when torchrun, which started it, is killed, and its forks with it; on Linux.

    A data-loader worker that is interrupted when its process is killed waits for ever: nobody reads the batch that it
    has to hand over before it ends.
    """
    import ctypes

    try:
        prctl = ctypes.CDLL(None).prctl
    except (AttributeError, OSError, TypeError):  # another system
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.register_at_fork(after_in_child=partial(prctl, PR_SET_PDEATHSIG, signal.SIGKILL))


def quieten_consequences() -> None:
    """Print no traceback of what follows from a failure that the main thread reports."""
    threading.excepthook = partial(_in_thread, threading.excepthook)
    sys.excepthook = partial(_in_worker, sys.excepthook, os.getpid())


def _in_thread(usual: Callable, args: threading.ExceptHookArgs) -> None:
    """Print the traceback of an exception in a thread, unless the main thread raises it again: TensorBoard's writer."""
    if not out_of_space(args.exc_value):
        usual(args)


def _in_worker(usual: Callable, main: int, kind: type, error: BaseException, trace: object) -> None:
    """Print the traceback of an exception, unless a data-loader worker, a fork, finds that its reader has gone."""
    if os.getpid() == main or not isinstance(error, (EOFError, ConnectionError)):
        usual(kind, error, trace)
