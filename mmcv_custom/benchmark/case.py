"""A model and the images that it is measured on.

A case is one model on one kind of input; a setting is what all cases of a run share.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from functools import partial

import torch
from mmengine.config import Config
from torch import nn

from token_pruning.reducer import find_method

from ..cli.launch import build_model, check_device, read_config
from ..errors import ConfigError, DataError
from .autocast import single_where_needed
from .flops import Count, count
from .inputs import batches, check_shape, usual_shape

PARTS = ("backbone", "net", "train-step")
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
CANDIDATES = 1000  # detections before suppression that fresh weights are given, about a trained detector's


@dataclass(frozen=True)
class BenchmarkCase:
    """One model on one kind of input.

    Attributes:
        keep: "checkpoint" as its selectors decide, "config" exactly the config's ratios, a number the reducer's
            ``keep_ratio``; None is "checkpoint" where there is one, else "config".
        cost parameter: (argument, value) of the reducer; None leaves the config's.
        shape: (height, width) of synthetic images; None is what the model was made for (detectors: 800 x 1344).
    """

    config: str
    checkpoint: str | None = None
    keep: str | float | None = None
    cost_param: tuple[str, float] | None = None
    batch: int = 1
    shape: tuple[int, int] | None = None


@dataclass(frozen=True)
class BenchmarkSettings:
    """What all cases of a run share; ``images`` is a folder of images, None paints them."""

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


class BenchmarkModel:
    """A case's model on its device, and its batches, one for each turn; in evaluation, or for a training step.

    Attributes:
        cfg: the config as measured; ``kept`` says in words how its reducer was set.
        shape: (height, width) of synthetic images.

    Raises:
        ConfigError, DataError: config, reducer and images do not fit each other.
    """

    def __init__(self, case: BenchmarkCase, setting: BenchmarkSettings) -> None:
        self.case, self.setting, self.device = case, setting, check_device(setting.device)
        self.cfg, self.kept = _configured(case)
        self.model = build_model(self.cfg, case.checkpoint) if case.checkpoint else _fresh(self.cfg)
        if not hasattr(self.model.backbone, "execution"):
            raise ConfigError(
                f"{case.config} has a {type(self.model.backbone).__name__}; only ViT backbones of this "
                "project are measured here (TimmViT, PlainViTBackbone, ViTAdapter)"
            )
        self.model.to(self.device).train(setting.part == "train-step")
        if setting.precision != "fp32":
            single_where_needed(self.model)
        self.shape = case.shape or usual_shape(self.model)
        data = batches(self.cfg, setting.repeats, case.batch, setting.images, self.shape, annotated=self.model.training)
        self.data = [self._preprocessed(batch) for batch in data]
        if setting.part == "net" and case.checkpoint is None and hasattr(self.model, "roi_head"):
            self._lower_threshold()

    def _preprocessed(self, batch: dict) -> dict:
        sizes = {tuple(image.shape[-2:]) for image in batch["inputs"]}
        if len(sizes) > 1 and not self.model.training and hasattr(self.model, "decode_head"):
            raise DataError(
                f"images of {len(sizes)} sizes make no batch for a segmentor in testing; "
                "use a batch of 1, or images of one size"
            )
        data = self.model.data_preprocessor(batch, self.model.training)
        check_shape(self.model, tuple(data["inputs"].shape[-2:]))
        return data

    def forward(self, turn: int) -> object:
        """What is measured, on the batch of a turn."""
        data, dtype = self.data[turn % len(self.data)], PRECISIONS[self.setting.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            if self.setting.part == "backbone":
                return self.model.backbone(data["inputs"])
            return self.model(**data, mode="loss" if self.model.training else "predict")

    def count(self) -> list[Count]:
        """Of every batch."""
        root = self.model.backbone if self.setting.part == "backbone" else self.model
        return [count(partial(self.forward, turn), root) for turn in range(len(self.data))]

    @torch.no_grad()
    def _lower_threshold(self) -> None:
        """Fresh weights detect nothing, so the mask head would idle: keep the best candidates whatever they score."""
        heads, seen = self.model.roi_head, []
        hook = heads.bbox_head.register_forward_hook(lambda _, args, out: seen.append(out[0]))
        self.forward(0)
        hook.remove()
        scores = seen[0].float().softmax(-1)[:, :-1].flatten()
        heads.test_cfg.score_thr = scores.topk(min(CANDIDATES * self.case.batch, len(scores))).values[-1].item()


def _configured(case: BenchmarkCase) -> tuple[Config, str]:
    """The config with its reducer set as the case wants it, and words for that."""
    cfg = read_config(case.config)
    reducer = cfg.model.backbone.get("reducer")
    if reducer is None:
        if case.cost_param is not None:
            raise ConfigError(
                f"config {case.config} has no reducer whose {case.cost_param[0]} could be set: give a pruned one"
            )
        return cfg, "dense"
    known = inspect.signature(find_method(reducer.type)).parameters
    if case.cost_param is not None:
        _set(reducer, known, *case.cost_param)
    keep = case.keep or ("config" if case.checkpoint is None else "checkpoint")
    if keep == "checkpoint":
        if case.checkpoint is None:
            raise ConfigError(f"--keep-ratio checkpoint needs trained selectors: write {case.config}=CHECKPOINT")
        return cfg, "as trained"
    if "mode" in known:
        reducer.mode = "ratio"
    # ATS keeps as many as an image needs, so that its ratio is a bound.
    exactly = "exactly" if find_method(reducer.type).fixed_shapes else "at most"
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


def _set(reducer: dict, known: dict, key: str, value: float) -> None:
    if key not in known:
        name, cost_param = reducer["type"], find_method(reducer["type"]).cost_param[0]
        raise ConfigError(
            f"reducer {name} has no {key} to set; set its {cost_param} in a config "
            "(tools/analysis_tools/calibrate.py finds the one for a wanted cost)"
        )
    reducer[key] = value
