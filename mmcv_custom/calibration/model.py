"""Cost of one model at any setting of its reducer, and without a reducer.

The model is built once; only the reducer is rebuilt, with the weights of the first one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch

from token_pruning import Trace

from ..benchmark.case import BenchmarkCase, BenchmarkModel, BenchmarkSettings
from ..benchmark.session import counted
from ..benchmark.timing import interleaved, quartiles, speedup
from ..errors import ConfigError
from .reconfigure import reconfigured


class Calibration(BenchmarkModel):
    """A model whose reducer can be reconfigured and whose cost can be measured at each setting.

    Attributes:
        reducer_config: as given (``dict(type=METHOD, ...)``).
        dense: fields of ``counted`` without the reducer.
        grid_tokens: tokens of the smallest grid.

    Raises:
        ConfigError: the config has no reducer.
    """

    def __init__(self, case: BenchmarkCase, settings: BenchmarkSettings) -> None:
        super().__init__(case, settings)
        self.first_reducer = self.host.reducer
        if self.first_reducer is None:
            raise ConfigError(f"config {case.config} has no reducer: give one of a pruned model")
        self.reducer_config = dict(self.cfg.model.backbone.reducer)
        self.host.reducer = None
        with Trace() as trace:
            self.dense = counted(self.count(), self.host)
        self.grid_tokens = min(one.grid[0] * one.grid[1] for one in trace.passes)

    def reconfigure(self, name: str, value: float | list[float]) -> None:
        """Rebuild the reducer with its argument ``name`` set to ``value``.

        Raises:
            ValueError: the value is out of range.
        """
        self.host.reducer = reconfigured(self.first_reducer, self.reducer_config, **{name: value})

    def cost(self) -> dict[str, float]:
        """Return the fields of ``counted``, ``flops_ratio`` (GMACs over the dense model's) and ``keep_ratio_std``.

        The standard deviation is over images.
        """
        counts = self.count()
        found = counted(counts, self.host)
        kept = torch.cat([c.kept for c in counts])[:, found["pruned_blocks"]].mean(1)
        return found | dict(
            flops_ratio=found["gmacs"] / self.dense["gmacs"],
            keep_ratio_std=kept.std(correction=0).item(),
        )

    def times(self, repeats: int) -> dict[str, object]:
        """Return fields with the milliseconds of a batch and the speed-up over the dense model, both interleaved."""
        reducer = self.host.reducer

        def step(reducer) -> Callable[[int], object]:
            def run(repeat: int) -> object:
                self.host.reducer = reducer
                with torch.no_grad():
                    return self.forward(repeat)

            return run

        times = interleaved([step(None), step(reducer)], self.device, repeats, self.settings.warmup)
        dense, own = ([total for (total,) in column] for column in times)
        return dict(
            ms_median=statistics.median(own),
            ms_quartiles=quartiles(own),
            ms_dense_median=statistics.median(dense),
            **speedup(dense, own, "dense"),
        )

    @torch.no_grad()
    def pool_share(self) -> dict[str, float]:
        """Return the fraction of decisions (one per image and block) that pool, and their number.

        Raises:
            ConfigError: no block decides between pruning and pooling.
        """
        reducer, pooled = self.host.reducer, []
        decide = reducer.decide

        def recorded(*args) -> tuple:
            decision = decide(*args)
            pooled.append(decision[0])
            return decision

        reducer.decide = recorded
        for repeat in range(len(self.data)):
            self.forward(repeat)
        del reducer.decide
        if not pooled:
            raise ConfigError("no block removes a token, so none decides between pruning and pooling: set r first")
        pooled = torch.cat(pooled)
        return dict(pool_share=pooled.float().mean().item(), decisions=len(pooled))
