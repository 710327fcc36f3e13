"""Interleaved measurement of several models: one result row for each."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict

import torch
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn

from token_pruning.analysis.keep_ratio import mean_keep_ratio
from token_pruning.host import Host

from ..engine.acceleration import STEPS, accelerate
from ..results import row
from ..shipped import config_stem
from .case import BenchmarkCase, BenchmarkModel, BenchmarkSettings
from .flops import Count
from .progress import by_name
from .timing import Stopwatch, interleaved, quartiles, speedup


class BenchmarkSession(BenchmarkModel):
    """A model ready to be timed: ``step(repeat)`` runs it on one batch after the other.

    Attributes:
        counts: operations and tokens of every batch.
        stopwatch: splits the time of a network into backbone, neck and heads; None for other parts.
    """

    def __init__(self, case: BenchmarkCase, settings: BenchmarkSettings) -> None:
        super().__init__(case, settings)
        self.stopwatch = self.optimizer = None
        if self.model.training:
            self.optimizer = _optimizer(self.model, self.cfg.optim_wrapper)
            if self.kept != "dense":
                self.kept = "as training selects"
        if settings.part == "net" and getattr(self.model, "neck", None) is not None:
            self.stopwatch = Stopwatch(self.model.neck, self.device)
        self.counts = self.count()
        steps = [name for name in STEPS if getattr(settings, name)]
        if steps:  # after counting, because operators of a compiled backbone cannot be counted
            accelerate(self.model, steps)
            for repeat in range(len(self.data)):  # compile or capture every size before anything is timed
                self.step(repeat)

    def step(self, repeat: int) -> None:
        """Run inference or a training step on the batch of a repeat."""
        if self.optimizer is None:
            with torch.no_grad():
                self.forward(repeat)
        else:
            loss, _ = self.model.parse_losses(self.forward(repeat))
            self.optimizer.update_params(loss)

    def fields(self, times: list[list[float]], others: dict[str, list[float]]) -> dict[str, object]:
        """Return the fields of the result row.

        Args:
            times: milliseconds of every repeat; of a network, also of its three parts.
            others: name -> milliseconds per image of the models that it is compared with.
        """
        total, *parts = (list(column) for column in zip(*times, strict=True))
        ms = statistics.median(total)
        shape = self.settings.images is None and list(self.shape)
        found = dict(
            model=config_stem(self.case.config),
            config=self.case.config,
            checkpoint=self.case.checkpoint,
            weights="random" if self.case.checkpoint is None else "trained",
            keep=self.kept,
            cost_param=self.case.cost_param and self.case.cost_param[0],
            cost_value=self.case.cost_param and self.case.cost_param[1],
            batch=self.case.batch,
            shape=shape or None,
            **asdict(self.settings),
            num_images=len(self.data) * self.case.batch,
            ms_median=ms,
            ms_quartiles=quartiles(total),
            ms_per_image=ms / self.case.batch,
        )
        for name, other in others.items():
            found |= speedup(other, [t / self.case.batch for t in total], name)
        names = ("ms_backbone", "ms_neck", "ms_heads")
        found |= {name: statistics.median(part) for name, part in zip(names, parts, strict=False)}
        if self.settings.part == "net":
            samples = [s for data in self.data for s in data["data_samples"] if "pred_instances" in s]
            if samples:
                found["detections"] = statistics.mean(len(s.pred_instances) for s in samples)
        found |= counted(self.counts, self.host)
        found["execution"] = self.host.execution
        found["parameters"] = sum(p.numel() for p in self.model.parameters())
        if self.device.type == "cuda":
            found["peak_mb"] = self._peak()
        return found

    def _peak(self) -> float:
        """Return the peak memory of a step in MiB, without what was allocated before it (such as the weights)."""
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self.step(0)
        return (torch.cuda.max_memory_allocated(self.device) - before) / 2**20


def measure(cases: Sequence[BenchmarkCase], settings: BenchmarkSettings) -> list[dict]:
    """Return one row per case, in their order; every repeat runs each of them once.

    Each model is compared with the first, and a pruned one with the last dense model before it. ``flops_ratio`` is the
    ratio of GMACs to that dense model, or to the first model if there is none.
    """
    names = [config_stem(case.config) for case in cases]
    sessions = [BenchmarkSession(case, settings) for case in by_name(cases, names, "preparing")]
    times = interleaved(
        [s.step for s in sessions],
        torch.device(settings.device),
        settings.repeats,
        settings.warmup,
        [s.stopwatch for s in sessions],
        "timing",
    )
    rows, others, reference = [], {}, None
    for session, own in zip(sessions, times, strict=True):
        per_image = [total / session.case.batch for total, *_ in own]
        others.setdefault("first", per_image)
        if session.kept == "dense":
            others["dense"] = per_image
        fields = session.fields(own, others)
        if reference is None or session.kept == "dense":
            reference = fields["gmacs"]
        rows.append(row(**fields, flops_ratio=fields["gmacs"] / reference))
    return rows


def counted(counts: Sequence[Count], backbone: Host) -> dict[str, object]:
    """Return the row fields about operations (per image, of a forward; the spread is over batches) and tokens."""
    per_image = [c.total / len(c.tokens) / 2e9 for c in counts]
    tokens = torch.cat([c.tokens for c in counts]).float().mean(0)
    positions = statistics.mean(c.positions for c in counts)
    fraction = torch.cat([c.kept for c in counts]).mean(0).tolist()
    pruned = backbone.reducer.pruned_blocks if backbone.reducer else []
    return dict(
        gmacs=statistics.mean(per_image),
        gmacs_std=statistics.pstdev(per_image),
        block_gmacs=statistics.mean(c.parts["blocks"] / len(c.tokens) for c in counts) / 2e9,
        positions=positions,
        tokens_by_block=tokens.tolist(),
        keep_by_block=fraction,
        pruned_blocks=pruned,
        keep_ratio=mean_keep_ratio(fraction, pruned),
    )


def _optimizer(model: nn.Module, cfg: dict) -> OptimWrapper:
    """Build the optimizer of the recipe, without its precision, which the settings choose."""
    MMLogger.get_current_instance().setLevel("WARNING")  # else it lists every parameter
    return build_optim_wrapper(model, {k: v for k, v in cfg.items() if k not in ("type", "dtype", "loss_scale")})
