"""What the library owes to any input: the right result, or one clear sentence.

A case of a kind is made and run by one function of (random, folder), with random numbers that follow from the seed, the
kind and the case's number alone, so that any case can be run again without the others.
"""

import contextlib
import faulthandler
import io
import os
import random
import re
import shlex
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mmcv_custom.errors import UserError
from token_pruning.errors import SettingError

TIMEOUT_S = 40  # of one case, of processor time; ten times as long for one that waits
LONGEST = 700  # characters of a sentence, with paths and lists of what is known
# How Python and its libraries speak of their own insides, which says nothing to a user.
INSIDE = re.compile(
    r"object (is not|has no|does not support|cannot be)|not supported between|unsupported operand|NoneType|"
    r"positional argument|list indices|string indices|unhashable|out of range$|has no attribute|must be real number|"
    r"could not convert|invalid literal|too many values|not enough values|broadcast|Traceback|<class|<module|<function"
)


class Broken(AssertionError):
    """A case whose outcome is neither the right result nor one clear sentence."""


@dataclass
class Found:
    """A fault: the command that shows it again, what was given, and what came of it."""

    command: str
    given: str
    outcome: str


class Case:
    """One case: its random numbers, its folder, and what it gives in words.

    Args:
        seed, kind, number: what the random numbers follow from.
        folder: an empty folder for its files.
    """

    def __init__(self, seed: int, kind: str, number: int, folder: Path) -> None:
        self.random = random.Random(f"{seed} {kind} {number}")
        self.numbers = np.random.default_rng(self.random.getrandbits(32))
        self.number, self.folder, self.given = number, folder, ""

    def choose(self, *choices):
        """Return one of the choices."""
        return self.random.choice(choices)

    def allow(self, call: Callable, *args, names: tuple[str, ...] = (), **options):
        """Return what a call returns, or None where it refuses the input in one clear sentence.

        Args:
            names: the sentence must hold one of these texts, such as the file's name.
        """
        try:
            return call(*args, **options)
        except (UserError, SettingError) as error:
            check_sentence(str(error), names)
        except SystemExit as end:  # of a command
            if end.code not in (0, 1, 2):
                raise Broken(f"the exit status is {end.code}") from end
        return None


def check_sentence(text: str, names: tuple[str, ...] = ()) -> None:
    """Raise Broken unless ``text`` is one readable line that holds one of ``names``."""
    if not text or "\n" in text.strip() or len(text) > LONGEST + sum(map(len, names)) or len(text.split()) < 4:
        raise Broken(f"not one clear sentence: {text[:1000]!r}")
    if INSIDE.search(text):
        raise Broken(f"a sentence about Python's insides: {text!r}")
    if names and not any(name in text for name in names):
        raise Broken(f"the sentence names none of {names}: {text!r}")


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise Broken after ``seconds`` of processor time, so that other work on the machine does not count.

    A hang inside of a library, which no signal ends, ends the process with its stack.
    """

    def stop(*_):
        raise Broken(f"no end within {seconds:g} s")

    before = [signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
    faulthandler.dump_traceback_later(12 * seconds, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for number, handler in zip((signal.SIGPROF, signal.SIGALRM), before, strict=True):
            signal.signal(number, handler)


def run_case(kind: str, run: Callable[[Case], None], seed: int, number: int) -> Found | None:
    """Run one case; return its fault, if it has one."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, contextlib.ExitStack() as stack:
        case = Case(seed, kind, number, Path(folder))
        np.random.seed(case.random.getrandbits(32))
        random.seed(case.random.getrandbits(32))
        torch.manual_seed(case.random.getrandbits(32))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        here, outcome = os.getcwd(), None
        try:
            with time_limit(TIMEOUT_S):
                run(case)
            outcome = _left_over(case.folder)
        except Broken as error:
            outcome = f"{error}\n{_place(error.__cause__ or error.__context__ or error)}"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}\n{_place(error)}"
        finally:
            os.chdir(here)
    command = f"make fuzz KIND={shlex.quote(kind)} SEED={seed} NUMBER={number}"
    return outcome and Found(command, case.given, outcome)


def _left_over(folder: Path) -> str | None:
    parts = [str(path.relative_to(folder)) for path in folder.rglob(".part-*")]
    return f"half-written files are left: {parts}" if parts else None


def _place(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__)[-5:])
