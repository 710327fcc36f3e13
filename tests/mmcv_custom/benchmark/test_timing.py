"""The clock of the benchmarks."""

import time

import pytest
import torch

from mmcv_custom.benchmark.timing import Clock, compare

CPU = torch.device("cpu")


@pytest.fixture
def sleep(monkeypatch):
    """Replace the clock by one that advances only when the returned function is called."""
    times = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: times[0])

    def advance(seconds):
        times[0] += seconds

    return advance


def test_compare_gives_medians_and_ratios_to_the_first(sleep):
    order = []

    def call(name, seconds):
        order.append(name)
        sleep(seconds)

    found = compare(dict(ours=lambda: call("ours", 1), other=lambda: call("other", 3)), CPU, rounds=2)
    assert order == ["ours", "other"] * 3  # the first round is the warm-up
    assert found == dict(ms=1000, rounds=2, ms_other=3000, speedup_vs_other=3, speedup_vs_other_quartiles=[3, 3])


def test_shares_are_of_the_watched_calls(sleep):
    clock, repeats = Clock(CPU), []
    watched = clock.watch(sleep)

    def step(repeat):
        repeats.append(repeat)
        watched(1)
        sleep(3)

    assert clock.shares(step, repeats=2, warmup=1) == ([0.25, 0.25], [4000, 4000])
    assert repeats == [-1, 0, 1]
