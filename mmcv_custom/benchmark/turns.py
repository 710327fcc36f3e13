"""Time several functions in turns, with the fields of a result row."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def milliseconds(function: Callable[[], None], device: str, times: int) -> float:
    """Of one call, on CUDA by events around ``times`` calls."""
    if device == "cpu":
        start = time.perf_counter()
        function()
        return 1e3 * (time.perf_counter() - start)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(times):
        function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / times


def in_turns(runs: dict[str, Callable[[], None]], device: str, rounds: int, times: int = 20) -> dict[str, object]:
    """Fields of a row: ``ms`` of the first run, and of each other its ``ms_NAME``, ``speedup_vs_NAME`` (median of the
    ratios of neighbouring measurements) and ``speedup_vs_NAME_quartiles``. All run once in each round."""
    found = {name: [] for name in runs}
    for i in range(-1, rounds):  # one to warm up
        for name, run in runs.items():
            ms = milliseconds(run, device, times)
            if i >= 0:
                found[name].append(ms)
    first, *others = found
    fields = dict(ms=statistics.median(found[first]), rounds=rounds)
    for name in others:
        ratios = [peer / ours for peer, ours in zip(found[name], found[first], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        fields |= {f"ms_{name}": statistics.median(found[name]), f"speedup_vs_{name}": middle,
                   f"speedup_vs_{name}_quartiles": [low, high]}
    return fields
