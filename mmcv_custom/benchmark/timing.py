"""The clock of all benchmarks.

Compared calls are interleaved (A B A B ...), so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps

import torch
from torch import nn

from ..errors import ConfigError
from .progress import bar


def now(device: torch.device) -> float:
    """Wait until the device is idle and return the time in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Clock:
    """Accumulates the seconds spent in watched calls, without those in calls that are watched with ``sign`` -1."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds, self.depth = device, 0.0, 0

    def watch(self, call: Callable, sign: int = 1) -> Callable:
        """Return ``call``, timed; with ``sign`` -1 its time is subtracted."""

        @wraps(call)
        def timed(*args, **kwargs):
            outer = self.depth == 0 or sign < 0  # a watched call inside another is counted once
            self.depth += sign > 0
            start = now(self.device)
            try:
                return call(*args, **kwargs)
            finally:
                self.depth -= sign > 0
                if outer:
                    self.seconds += sign * (now(self.device) - start)

        return timed

    def shares(self, step: Callable[[int], object], repeats: int, warmup: int) -> tuple[list[float], list[float]]:
        """Return the watched fraction of every call of ``step``, and the milliseconds of the whole call.

        Args:
            step: called with the number of the repeat; those of the warm-up are negative and left out.
        """
        shares, totals = [], []
        for repeat in range(-warmup, repeats):
            self.seconds, start = 0.0, now(self.device)
            step(repeat)
            total = now(self.device) - start
            if repeat >= 0:
                shares.append(self.seconds / total)
                totals.append(1e3 * total)
        return shares, totals


class Stopwatch:
    """Marks when ``module`` begins and ends inside a step; on CUDA by events, which do not synchronize."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.cuda, self.marks = device.type == "cuda", []
        module.register_forward_pre_hook(lambda *_: self.mark())
        module.register_forward_hook(lambda *_: self.mark())

    def start(self) -> None:
        """Mark the beginning of a step."""
        self.marks = []
        self.mark()

    def mark(self) -> None:
        """Record a point in time."""
        if self.cuda:
            self.marks.append(torch.cuda.Event(enable_timing=True))
            self.marks[-1].record()
        else:
            self.marks.append(time.perf_counter())

    def split(self, total: float) -> list[float]:
        """Return the milliseconds before, inside and after the module, of a step that took ``total``."""
        start, first, last = self.marks
        if self.cuda:
            before, inside = start.elapsed_time(first), first.elapsed_time(last)
        else:
            before, inside = 1e3 * (first - start), 1e3 * (last - first)
        return [before, inside, total - before - inside]


def milliseconds(step: Callable[[], object], device: torch.device, stopwatch: Stopwatch | None = None) -> list[float]:
    """Return the milliseconds of one call, device idle before and after; with ``stopwatch``, also its three parts."""
    start = now(device)
    if stopwatch:
        stopwatch.start()
    step()
    total = 1e3 * (now(device) - start)
    return [total, *stopwatch.split(total)] if stopwatch else [total]


def back_to_back(call: Callable[[], object], device: torch.device, times: int) -> float:
    """Return the milliseconds of a call.

    On CUDA the mean over ``times`` calls without synchronization between them, as operators run in a model; elsewhere
    of one call.
    """
    if device.type != "cuda":
        return milliseconds(call, device)[0]
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(times):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / times


def compare(
    calls: Mapping[str, Callable[[], object]], device: torch.device, rounds: int, times: int = 20
) -> dict[str, object]:
    """Time calls against the first of them, interleaved, after one warm-up round.

    Args:
        rounds: each measures every call once.
        times: calls of one measurement, see ``back_to_back``.

    Returns:
        Fields of a result row: ``ms`` of the first call, and for each other its ``ms_NAME`` and the ``speedup`` of the
        first over it.
    """
    found = {name: [] for name in calls}
    for round_ in range(-1, rounds):
        for name, call in calls.items():
            ms = back_to_back(call, device, times)
            if round_ >= 0:
                found[name].append(ms)
    first, *others = found
    fields = dict(ms=statistics.median(found[first]), rounds=rounds)
    for name in others:
        fields |= {f"ms_{name}": statistics.median(found[name]), **speedup(found[name], found[first], name)}
    return fields


def interleaved(
    steps: Sequence[Callable[[int], object]],
    device: torch.device,
    repeats: int,
    warmup: int,
    stopwatches: Sequence[Stopwatch | None] | None = None,
    words: str | None = None,
) -> list[list[list[float]]]:
    """Return the ``milliseconds`` of every step in every repeat (A B A B ...), without the warm-up.

    Args:
        steps: called with the number of the repeat; those of the warm-up are negative.
        stopwatches: one for each step, or None.
        words: what a bar on the terminal says meanwhile; None shows none.
    """
    found = [[] for _ in steps]
    stopwatches = stopwatches or [None] * len(steps)
    turns = range(-warmup, repeats)
    for repeat in bar(turns, words) if words else turns:
        for step, stopwatch, own in zip(steps, stopwatches, found, strict=True):
            ms = milliseconds(partial(step, repeat), device, stopwatch)
            if repeat >= 0:
                own.append(ms)
    return found


def quartiles(values: Sequence[float]) -> list[float]:
    """Return the lower and upper quartile; of a single value, that value twice."""
    if len(values) == 1:
        return [values[0], values[0]]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return [low, high]


def speedup(other: Sequence[float], own: Sequence[float], name: str) -> dict[str, object]:
    """Return the speed-up over another model: median and quartiles of the ratios of neighbouring measurements."""
    ratios = [a / b for a, b in zip(other, own, strict=True)]
    return {f"speedup_vs_{name}": statistics.median(ratios), f"speedup_vs_{name}_quartiles": quartiles(ratios)}


def add_rounds(parser: argparse.ArgumentParser, default: int) -> None:
    """Add the option ``--rounds`` of a benchmark whose rows hold quartiles."""
    words = f"timed rounds, at least 2 (default: {default})"
    parser.add_argument("--rounds", type=_rounds, default=default, metavar="N", help=words)


def _rounds(text: str) -> int:
    if (number := int(text)) < 2:
        raise ConfigError("--rounds must be at least 2 (quartiles need them)")
    return number


def of_forms(forms: Mapping[str, Callable[[], object]], rounds: int, pause: float = 0.02) -> dict[str, list[float]]:
    """Return the milliseconds of every form of a network on the CPU, in turns, after one warm-up round.

    Args:
        forms: each runs the network once, perhaps in a runtime of its own.
        rounds: timed ones.
        pause: seconds between two forms: the threads of a runtime spin for some milliseconds after a call, waiting for
            work, and would slow the next one.
    """
    steps = [step for form in forms.values() for step in (lambda repeat: time.sleep(pause), partial(_call, form))]
    times = interleaved(steps, torch.device("cpu"), rounds, warmup=1)[1::2]
    return {name: [total for (total,) in own] for name, own in zip(forms, times, strict=True)}


def _call(form: Callable[[], object], repeat: int) -> None:
    form()
