"""What one model costs at any setting of its reducer, and without one.

The model is built once; only the reducer is built anew, with the weights of the first.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch

from token_pruning import Trace

from ..benchmark.case import BenchmarkCase, BenchmarkModel, BenchmarkSettings
from ..benchmark.session import counted
from ..benchmark.timing import in_turns, quartiles, speedup
from ..errors import ConfigError
from .reconfigure import reconfigured


class Calibration(BenchmarkModel):
    """Attributes:
        reducer: its config as given (``dict(type=METHOD, ...)``).
        dense: ``counted`` without the reducer.
        grid: positions of the smallest map.

    Raises:
        ConfigError: the config has no reducer.
    """

    def __init__(self, case: BenchmarkCase, setting: BenchmarkSettings) -> None:
        super().__init__(case, setting)
        self.first = self.model.backbone.reducer
        if self.first is None:
            raise ConfigError(f"config {case.config} has no reducer: give one of a pruned model")
        self.reducer = dict(self.cfg.model.backbone.reducer)
        self.model.backbone.reducer = None
        with Trace() as trace:
            self.dense = counted(self.count(), self.model.backbone)
        self.grid = min(height * width for height, width in (seen.grid for seen in trace.passes))

    def reconfigure(self, name: str, value: float | list[float]) -> None:
        """Give the model a reducer whose argument ``name`` is ``value``.

        Raises:
            ValueError: that is outside its range.
        """
        self.model.backbone.reducer = reconfigured(self.first, self.reducer, **{name: value})

    def cost(self) -> dict[str, float]:
        """Fields as those of ``counted``, ``flops_ratio`` to the dense model, and ``keep_ratio_std`` over images."""
        counts = self.count()
        found = counted(counts, self.model.backbone)
        kept = torch.cat([c.kept for c in counts])[:, found["pruned_blocks"]].mean(1)
        return found | dict(
            flops_ratio=found["gmacs"] / self.dense["gmacs"],
            keep_ratio_std=kept.std(correction=0).item(),
        )

    def times(self, repeats: int) -> dict[str, object]:
        """Milliseconds of a batch, and how many times faster than the dense model it is; both run in every turn."""
        reducer = self.model.backbone.reducer

        def step(reducer) -> Callable[[int], object]:
            def run(turn: int) -> object:
                self.model.backbone.reducer = reducer
                with torch.no_grad():
                    return self.forward(turn)

            return run

        turns = in_turns([step(None), step(reducer)], self.device, repeats, self.setting.warmup, [None, None])
        dense, own = ([total for (total,) in times] for times in turns)
        return dict(
            ms_median=statistics.median(own),
            ms_quartiles=quartiles(own),
            ms_dense_median=statistics.median(dense),
            **speedup(dense, own, "dense"),
        )

    @torch.no_grad()
    def pool_share(self) -> dict[str, float]:
        """Share of the decisions, one for each image and block, that pool.

        Raises:
            ConfigError: there is nothing to decide.
        """
        reducer, pooled = self.model.backbone.reducer, []
        decide = reducer.decide

        def watched(*args) -> tuple:
            decision = decide(*args)
            pooled.append(decision[0])
            return decision

        reducer.decide = watched
        for turn in range(len(self.data)):
            self.forward(turn)
        del reducer.decide
        if not pooled:
            raise ConfigError("no block takes any token, so none decides between pruning and pooling: set r first")
        pooled = torch.cat(pooled)
        return dict(pool_share=pooled.float().mean().item(), decisions=len(pooled))
