"""Measure models in turns: what a row of ``speed_test.py`` is made of.

A case is one model on one kind of input; a setting is what all cases of a run share.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import statistics
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn

from ops.results import row
from token_pruning import METHODS

from ..acceleration import STEPS, accelerate
from ..errors import ConfigError, DataError
from ..launch import build_model, load_config
from .counting import Count, count
from .precision import single_where_needed
from .samples import batches, check_shape, usual_shape
from .timing import Laps, in_turns, quartiles, speedup

PARTS = ("backbone", "net", "train-step")
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
CANDIDATES = 1000  # detections before suppression that fresh weights are given, about a trained detector's


@dataclass(frozen=True)
class Case:
    """One model on one kind of input.

    Attributes:
        keep: "checkpoint" as its selectors decide, "config" exactly the config's ratios, a number the reducer's
            ``keep_ratio``; None is "checkpoint" where there is one, else "config".
        ratio_scale: the reducer's dial at test time; None leaves the config's.
        shape: (height, width) of painted pictures; None is what the model was made for (detectors: 800 x 1344).
    """

    config: str
    checkpoint: str | None = None
    keep: str | float | None = None
    ratio_scale: float | None = None
    batch: int = 1
    shape: tuple[int, int] | None = None


@dataclass(frozen=True)
class Setting:
    """What all cases of a run share; ``images`` is a folder of pictures, None paints them."""

    part: str = "net"
    device: str = "cpu"
    precision: str = "fp32"
    images: str | None = None
    fuse_conv_bn: bool = False
    channels_last: bool = False
    compile: bool = False
    cuda_graph: bool = False
    repeats: int = 7
    warmup: int = 2


class Subject:
    """A case made ready: ``step(turn)`` is what is timed, on one batch after the other."""

    def __init__(self, case: Case, setting: Setting) -> None:
        self.case, self.setting, self.device = case, setting, torch.device(setting.device)
        cfg, self.kept = _configured(case)
        self.model = build_model(cfg, case.checkpoint) if case.checkpoint else _fresh(cfg)
        if not hasattr(self.model.backbone, "execution"):
            raise ConfigError(f"{case.config} has a {type(self.model.backbone).__name__}; only ViT backbones of this "
                              "project are measured here (TimmViT, PlainViTBackbone, ViTAdapter)")
        self.model.to(self.device).train(setting.part == "train-step")
        self.laps = self.optimizer = None
        if self.model.training:
            self.optimizer = _optimizer(self.model, cfg.optim_wrapper)
            if self.kept != "dense":
                self.kept = "as training selects"
        if setting.precision != "fp32":
            single_where_needed(self.model)
        self.shape = case.shape or usual_shape(self.model)
        data = batches(cfg, setting.repeats, case.batch, setting.images, self.shape, annotated=self.model.training)
        self.data = [self._preprocessed(batch) for batch in data]
        if setting.part == "net":
            if case.checkpoint is None and hasattr(self.model, "roi_head"):
                self._lower_threshold()
            if getattr(self.model, "neck", None) is not None:
                self.laps = Laps(self.model.neck, self.device)
        root = self.model.backbone if setting.part == "backbone" else self.model
        self.counts = [count(partial(self.forward, i), root) for i in range(len(self.data))]
        steps = [name for name in STEPS if getattr(setting, name)]
        if steps:  # what is counted above would be hidden by a compiled backbone
            accelerate(self.model, steps)
            for turn in range(len(self.data)):  # every size is compiled or captured once, and not on the clock
                self.step(turn)

    def _preprocessed(self, batch: dict) -> dict:
        sizes = {tuple(image.shape[-2:]) for image in batch["inputs"]}
        if len(sizes) > 1 and not self.model.training and hasattr(self.model, "decode_head"):
            raise DataError(f"pictures of {len(sizes)} sizes make no batch for a segmentor in testing; "
                            "use a batch of 1, or pictures of one size")
        data = self.model.data_preprocessor(batch, self.model.training)
        check_shape(self.model, tuple(data["inputs"].shape[-2:]))
        return data

    def step(self, turn: int) -> None:
        if self.optimizer is None:
            with torch.no_grad():
                self.forward(turn)
        else:
            loss, _ = self.model.parse_losses(self.forward(turn))
            self.optimizer.update_params(loss)

    def forward(self, turn: int) -> object:
        data, dtype = self.data[turn % len(self.data)], PRECISIONS[self.setting.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            if self.setting.part == "backbone":
                return self.model.backbone(data["inputs"])
            return self.model(**data, mode="predict" if self.optimizer is None else "loss")

    @torch.no_grad()
    def _lower_threshold(self) -> None:
        """Fresh weights detect nothing, so the mask head would idle: keep the best candidates whatever they score."""
        heads, seen = self.model.roi_head, []
        hook = heads.bbox_head.register_forward_hook(lambda _, args, out: seen.append(out[0]))
        self.forward(0)
        hook.remove()
        scores = seen[0].float().softmax(-1)[:, :-1].flatten()
        heads.test_cfg.score_thr = scores.topk(min(CANDIDATES * self.case.batch, len(scores))).values[-1].item()

    def fields(self, times: list[list[float]], others: dict[str, list[float]]) -> dict[str, object]:
        """Of the row, from the milliseconds of all turns (of a net: with its three parts) and those of the cases that
        it is compared with, per picture."""
        total, *parts = (list(column) for column in zip(*times, strict=True))
        ms = statistics.median(total)
        shape = self.setting.images is None and list(self.shape)
        found = dict(
            model=Path(self.case.config).stem, config=self.case.config, checkpoint=self.case.checkpoint,
            weights="random" if self.case.checkpoint is None else "trained", keep=self.kept,
            ratio_scale=self.case.ratio_scale, batch=self.case.batch, shape=shape or None, **asdict(self.setting),
            pictures=len(self.data) * self.case.batch, ms_median=ms, ms_quartiles=quartiles(total),
            ms_per_picture=ms / self.case.batch)
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


def measure(cases: list[Case], setting: Setting) -> list[dict]:
    """One row per case, in their order; all run once in every turn. Each is compared with the first, and a pruned one
    with the last dense one before it; ``flops_ratio`` is to that one, without one to the first."""
    subjects = [Subject(case, setting) for case in cases]
    times = in_turns([s.step for s in subjects], torch.device(setting.device), setting.repeats, setting.warmup,
                     [s.laps for s in subjects])
    rows, others, whole = [], {}, None
    for subject, own in zip(subjects, times, strict=True):
        per_picture = [turn[0] / subject.case.batch for turn in own]
        others.setdefault("first", per_picture)
        if subject.kept == "dense":
            others["dense"] = per_picture
        fields = subject.fields(own, others)
        if whole is None or subject.kept == "dense":
            whole = fields["gflops"]
        rows.append(row(**fields, flops_ratio=fields["gflops"] / whole))
    return rows


def counted(counts: list[Count], backbone: nn.Module) -> dict[str, object]:
    """Fields about operations (per picture, of a forward; the spread is over batches) and tokens."""
    per_picture = [c.total / len(c.tokens) / 1e9 for c in counts]
    tokens = torch.cat([c.tokens for c in counts]).float().mean(0)
    positions = statistics.mean(c.positions for c in counts)
    fraction = torch.cat([c.tokens / c.positions for c in counts]).mean(0).tolist()
    pruned = backbone.reducer.pruned_blocks if backbone.reducer else []
    return dict(
        gflops=statistics.mean(per_picture), gflops_std=statistics.pstdev(per_picture),
        block_gmacs=statistics.mean(c.parts["blocks"] / len(c.tokens) for c in counts) / 2e9,
        positions=positions, tokens_by_block=tokens.tolist(), keep_by_block=fraction, pruned_blocks=pruned,
        keep_ratio=statistics.mean(fraction[i] for i in pruned) if pruned else 1.0)


def _configured(case: Case) -> tuple[Config, str]:
    """The config with its reducer set as the case wants it, and words for that."""
    cfg = load_config(case.config, argparse.Namespace(cfg_options={}, local_rank=0, launcher="none", work_dir=None))
    reducer = cfg.model.backbone.get("reducer")
    if reducer is None:
        if case.ratio_scale is not None:
            raise ConfigError(f"config {case.config} has no reducer whose ratio could be scaled: give a pruned one")
        return cfg, "dense"
    known = inspect.signature(METHODS[reducer.type]).parameters
    if case.ratio_scale is not None:
        _set(reducer, known, "ratio_scale", case.ratio_scale)
    keep = case.keep or ("config" if case.checkpoint is None else "checkpoint")
    if keep == "checkpoint":
        if case.checkpoint is None:
            raise ConfigError(f"--keep-ratio checkpoint needs trained selectors: write {case.config}=CHECKPOINT")
        return cfg, "as trained"
    if "mode" in known:
        reducer.mode = "ratio"
    # ATS keeps as many as a picture needs, so that its ratio is a bound.
    exactly = "exactly" if METHODS[reducer.type].fixed_shapes else "at most"
    if keep == "config":
        return cfg, f"{exactly} as configured"
    _set(reducer, known, "keep_ratio", keep)
    return cfg, f"{exactly} keep_ratio={keep}"


def _fresh(cfg: Config) -> nn.Module:
    """The model with fresh weights that are those of its dense counterpart. Heads that start elsewhere would find boxes
    of another size, and pasting their masks can take longer than what pruning saves."""
    dense = copy.deepcopy(cfg)
    dense.model.backbone.pop("reducer", None)
    torch.manual_seed(0)
    model = build_model(cfg, None)
    torch.manual_seed(0)
    model.load_state_dict(build_model(dense, None).state_dict(), strict=False)
    return model


def _optimizer(model: nn.Module, cfg: dict) -> OptimWrapper:
    """The recipe's, except that precision is the setting's choice."""
    MMLogger.get_current_instance().setLevel("WARNING")  # it would list every parameter
    return build_optim_wrapper(model, {k: v for k, v in cfg.items() if k not in ("type", "dtype", "loss_scale")})


def _set(reducer: dict, known: dict, key: str, value: float) -> None:
    if key not in known:
        name, dial = reducer["type"], METHODS[reducer["type"]].dial[0]
        raise ConfigError(f"reducer {name} has no {key} to set; set its {dial} in a config "
                          "(tools/analysis_tools/calibrate.py finds the one for a wanted cost)")
    reducer[key] = value
