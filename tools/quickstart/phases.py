"""One line per phase on the terminal; what the tools of a phase print goes to a log file."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from mmcv_custom.cli.subprocess_tools import run_tool, shown

PRIOR = 60.0  # seconds at the expected pace that count besides those measured: a short first phase says little
TAIL = 12  # lines of a log that are shown when its phase fails


class Phases:
    """Print one line per phase of a plan, with the time that is left.

    Args:
        folder: where the log files go, one per phase.
        plan: (text, expected seconds) of every phase. Expectations are scaled by what the phases so far took.
    """

    def __init__(self, folder: str | Path, plan: Sequence[tuple[str, float]]) -> None:
        self.folder, self.plan = Path(folder), plan
        self.index, self.elapsed = 0, 0.0

    @contextmanager
    def next(self) -> Iterator[None]:
        """Run the body as the next phase: what it prints, or ``call`` runs, goes to the phase's log."""
        what, _ = self.plan[self.index]
        self.index += 1
        print(f"[{self.index}/{len(self.plan)}] {what} (about {self.left()} to the end) ...", end="", flush=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / f"{self.index}_{what.split(':')[0].replace(' ', '_')}.log"
        start = time.monotonic()
        try:
            self.log.unlink(missing_ok=True)
            with self.log.open("a") as file, redirect_stdout(file), redirect_stderr(file):
                yield
        except BaseException:
            print(flush=True)
            raise
        seconds = time.monotonic() - start
        self.elapsed += seconds
        print(f" {duration(seconds)}", flush=True)

    def left(self) -> str:
        """Return the expected time from the current phase to the end, in words."""
        done = sum(seconds for _, seconds in self.plan[: self.index - 1])
        pace = (self.elapsed + PRIOR) / (done + PRIOR)
        return duration(pace * sum(seconds for _, seconds in self.plan[self.index - 1 :]))

    def call(self, *command: object) -> None:
        """Run the command of a tool inside a phase; if it fails, show the end of the log and exit with its code."""
        with self.log.open("a") as file:
            print(shown(command), file=file, flush=True)
            status = run_tool(*command, stdout=file, stderr=subprocess.STDOUT)
        if status:
            lines = self.log.read_text(errors="replace").splitlines()[-TAIL:]
            said = "\n".join(["", *lines, f"This command failed; all that it printed is in {self.log}"])
            print(said, file=sys.__stderr__)
            sys.exit(status)


def duration(seconds: float) -> str:
    """Return seconds in words: 40 s, 3.5 min."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
