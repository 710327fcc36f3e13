"""Measure models in turns: what a row of ``speed_test.py`` is made of."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn

from ..engine.acceleration import STEPS, accelerate
from ..results import row
from .case import BenchmarkCase, BenchmarkModel, BenchmarkSettings
from .flops import Count
from .timing import Stopwatch, in_turns, quartiles, speedup


class BenchmarkSession(BenchmarkModel):
    """A case made ready: ``step(turn)`` is what is timed, on one batch after the other."""

    def __init__(self, case: BenchmarkCase, setting: BenchmarkSettings) -> None:
        super().__init__(case, setting)
        self.stopwatch = self.optimizer = None
        if self.model.training:
            self.optimizer = _optimizer(self.model, self.cfg.optim_wrapper)
            if self.kept != "dense":
                self.kept = "as training selects"
        if setting.part == "net" and getattr(self.model, "neck", None) is not None:
            self.stopwatch = Stopwatch(self.model.neck, self.device)
        self.counts = self.count()
        steps = [name for name in STEPS if getattr(setting, name)]
        if steps:  # what is counted above would be hidden by a compiled backbone
            accelerate(self.model, steps)
            for turn in range(len(self.data)):  # every size is compiled or captured once, and not on the clock
                self.step(turn)

    def step(self, turn: int) -> None:
        if self.optimizer is None:
            with torch.no_grad():
                self.forward(turn)
        else:
            loss, _ = self.model.parse_losses(self.forward(turn))
            self.optimizer.update_params(loss)

    def fields(self, times: list[list[float]], others: dict[str, list[float]]) -> dict[str, object]:
        """Of the row, from the milliseconds of all turns (of a net: with its three parts) and those of the cases that
        it is compared with, per image."""
        total, *parts = (list(column) for column in zip(*times, strict=True))
        ms = statistics.median(total)
        shape = self.setting.images is None and list(self.shape)
        found = dict(
            model=Path(self.case.config).stem,
            config=self.case.config,
            checkpoint=self.case.checkpoint,
            weights="random" if self.case.checkpoint is None else "trained",
            keep=self.kept,
            cost_param=self.case.cost_param and self.case.cost_param[0],
            cost_value=self.case.cost_param and self.case.cost_param[1],
            batch=self.case.batch,
            shape=shape or None,
            **asdict(self.setting),
            num_images=len(self.data) * self.case.batch,
            ms_median=ms,
            ms_quartiles=quartiles(total),
            ms_per_image=ms / self.case.batch,
        )
        for name, other in others.items():
            found |= speedup(other, [t / self.case.batch for t in total], name)
        names = ("ms_backbone", "ms_neck", "ms_heads")
        found |= {name: statistics.median(part) for name, part in zip(names, parts, strict=False)}
        if self.setting.part == "net":
            samples = [s for data in self.data for s in data["data_samples"] if "pred_instances" in s]
            if samples:
                found["detections"] = statistics.mean(len(s.pred_instances) for s in samples)
        found |= counted(self.counts, self.model.backbone)
        found["execution"] = self.model.backbone.execution
        found["parameters"] = sum(p.numel() for p in self.model.parameters())
        if self.device.type == "cuda":
            found["peak_mb"] = self._peak()
        return found

    def _peak(self) -> float:
        """MiB that a step needs at most, over what lies there before it (weights among it)."""
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self.step(0)
        return (torch.cuda.max_memory_allocated(self.device) - before) / 2**20


def measure(cases: list[BenchmarkCase], setting: BenchmarkSettings) -> list[dict]:
    """One row per case, in their order; all run once in every turn. Each is compared with the first, and a pruned one
    with the last dense one before it; ``flops_ratio`` is to that one, without one to the first."""
    sessions = [BenchmarkSession(case, setting) for case in cases]
    times = in_turns(
        [s.step for s in sessions],
        torch.device(setting.device),
        setting.repeats,
        setting.warmup,
        [s.stopwatch for s in sessions],
    )
    rows, others, whole = [], {}, None
    for session, own in zip(sessions, times, strict=True):
        per_image = [turn[0] / session.case.batch for turn in own]
        others.setdefault("first", per_image)
        if session.kept == "dense":
            others["dense"] = per_image
        fields = session.fields(own, others)
        if whole is None or session.kept == "dense":
            whole = fields["gmacs"]
        rows.append(row(**fields, flops_ratio=fields["gmacs"] / whole))
    return rows


def counted(counts: list[Count], backbone: nn.Module) -> dict[str, object]:
    """Fields about operations (per image, of a forward; the spread is over batches) and tokens."""
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
        keep_ratio=statistics.mean(fraction[i] for i in pruned) if pruned else 1.0,
    )


def _optimizer(model: nn.Module, cfg: dict) -> OptimWrapper:
    """The recipe's, except that precision is the setting's choice."""
    MMLogger.get_current_instance().setLevel("WARNING")  # it would list every parameter
    return build_optim_wrapper(model, {k: v for k, v in cfg.items() if k not in ("type", "dtype", "loss_scale")})
