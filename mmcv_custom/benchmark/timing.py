"""The clock of all benchmarks: work is measured in turns, so that a busy machine hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps

import torch
from torch import nn


def now(device: torch.device) -> float:
    """Seconds, as soon as the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Clock:
    """Seconds inside the calls it watches, those inside the calls it is told to leave out taken off."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds, self.depth = device, 0.0, 0

    def watch(self, call: Callable, sign: int = 1) -> Callable:
        """``call`` on the clock, or with ``sign`` -1 off it."""

        @wraps(call)
        def timed(*args, **kwargs):
            outer = self.depth == 0 or sign < 0  # a call within a call is counted once
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
        """The watched part of every call of ``step``, as a fraction, and the milliseconds of the whole call.

        Args:
            step: called with the number of the turn, from 0 also after the warm-up, which is left out.
        """
        shares, totals = [], []
        for turn in range(-warmup, repeats):
            self.seconds, start = 0.0, now(self.device)
            step(turn)
            total = now(self.device) - start
            if turn >= 0:
                shares.append(self.seconds / total)
                totals.append(1e3 * total)
        return shares, totals


class Stopwatch:
    """Marks where ``module`` begins and ends inside a step. On CUDA they are events: nothing waits for them."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.cuda, self.marks = device.type == "cuda", []
        module.register_forward_pre_hook(lambda *_: self.mark())
        module.register_forward_hook(lambda *_: self.mark())

    def start(self) -> None:
        self.marks = []
        self.mark()

    def mark(self) -> None:
        if self.cuda:
            self.marks.append(torch.cuda.Event(enable_timing=True))
            self.marks[-1].record()
        else:
            self.marks.append(time.perf_counter())

    def split(self, total: float) -> list[float]:
        """Milliseconds before, inside and after the module of a step that took ``total``."""
        start, first, last = self.marks
        if self.cuda:
            before, inside = start.elapsed_time(first), first.elapsed_time(last)
        else:
            before, inside = 1e3 * (first - start), 1e3 * (last - first)
        return [before, inside, total - before - inside]


def milliseconds(step: Callable[[], object], device: torch.device, stopwatch: Stopwatch | None = None) -> list[float]:
    """Of one call with the device idle at both ends; with ``stopwatch``, also its three parts."""
    start = now(device)
    if stopwatch:
        stopwatch.start()
    step()
    total = 1e3 * (now(device) - start)
    return [total, *stopwatch.split(total)] if stopwatch else [total]


def back_to_back(call: Callable[[], object], device: torch.device, times: int) -> float:
    """Milliseconds of a call. On CUDA, of ``times`` calls without a pause between them, which is how single operators
    run in a model; elsewhere of one."""
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
    """Fields of a result row: ``ms`` of the first call, and of each other its ``ms_NAME`` and the ``speedup`` of the
    first. All are measured ``back_to_back`` once in each of the rounds, and once before to warm up."""
    found = {name: [] for name in calls}
    for turn in range(-1, rounds):
        for name, call in calls.items():
            ms = back_to_back(call, device, times)
            if turn >= 0:
                found[name].append(ms)
    first, *others = found
    fields = dict(ms=statistics.median(found[first]), rounds=rounds)
    for name in others:
        fields |= {f"ms_{name}": statistics.median(found[name]), **speedup(found[name], found[first], name)}
    return fields


def in_turns(
    steps: Sequence[Callable[[int], object]],
    device: torch.device,
    repeats: int,
    warmup: int,
    stopwatch: Sequence[Stopwatch | None],
) -> list[list[list[float]]]:
    """The ``milliseconds`` of every step in every turn (A B A B ...), those of the warm-up left out.

    Args:
        steps: called with the number of the turn, from 0 also after the warm-up.
        laps: of every step, or None.
    """
    found = [[] for _ in steps]
    for turn in range(-warmup, repeats):
        for step, lap, own in zip(steps, stopwatch, found, strict=True):
            ms = milliseconds(lambda step=step, turn=turn: step(turn), device, lap)
            if turn >= 0:
                own.append(ms)
    return found


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower and upper quartile of at least two values."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return [low, high]


def speedup(other: Sequence[float], own: Sequence[float], name: str) -> dict[str, object]:
    """How many times faster than another model: the ratios of neighbouring measurements, median and quartiles."""
    ratios = [a / b for a, b in zip(other, own, strict=True)]
    return {f"speedup_vs_{name}": statistics.median(ratios), f"speedup_vs_{name}_quartiles": quartiles(ratios)}
