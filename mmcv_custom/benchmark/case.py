"""A model to measure and the images that it is measured on.

A case is one model on one kind of input; the settings are shared by all cases of a run.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import torch
from mmengine.config import Config
from torch import nn

from token_pruning.host import require_host
from token_pruning.reducer import find_method

from ..cli.launch import build_model, check_device, read_config
from ..data.synthetic import default_shape
from ..errors import ConfigError, DataError
from ..tasks import task_of
from .flops import Count, count
from .inputs import batches, check_shape
from .progress import bar

PARTS = ("backbone", "net", "train-step")
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
CANDIDATES = 1000  # detections before NMS that a detector with random weights gets, as many as a trained one has


@dataclass(frozen=True)
class BenchmarkCase:
    """One model on one kind of input.

    Attributes:
        config: path of the config.
        checkpoint: weights; None leaves random ones.
        keep: "checkpoint" (the trained selectors decide), "config" (exactly the config's ratios), or a number for the
            reducer's ``keep_ratio``; None is "checkpoint" where there is one, else "config".
        cost_param: (argument, value) of the reducer; None leaves the config's value.
        batch: images per batch.
        shape: (height, width) of synthetic images; None is the size that the model was made for (detectors:
            800 x 1344).
    """

    config: str
    checkpoint: str | None = None
    keep: str | float | None = None
    cost_param: tuple[str, float] | None = None
    batch: int = 1
    shape: tuple[int, int] | None = None


@dataclass(frozen=True)
class BenchmarkSettings:
    """Settings that all cases of a run share.

    Attributes:
        part: what is timed, one of ``PARTS``.
        images: folder of images; None generates synthetic ones.
        repeats: timed runs of each case, after ``warmup`` runs that are not timed.
    """

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
    """The model of a case on its device, and its batches, one per repeat; for inference or for a training step.

    Attributes:
        cfg: config as measured.
        host: backbone of the model.
        kept: in words, how its reducer was set ("dense", "as trained", "exactly keep_ratio=0.5").
        shape: (height, width) of synthetic images.

    Raises:
        ConfigError, DataError: config, reducer and images do not fit each other.
        SettingError: the backbone is not one of this project.
    """

    def __init__(self, case: BenchmarkCase, settings: BenchmarkSettings) -> None:
        self.case, self.settings, self.device = case, settings, check_device(settings.device)
        self.cfg, self.kept = _configured(case)
        self.task = task_of(self.cfg)
        self.model = build_model(self.cfg, case.checkpoint) if case.checkpoint else _with_random_weights(self.cfg)
        self.host = require_host(self.model, f"a benchmark of {case.config}")
        self.model.to(self.device).train(settings.part == "train-step")
        self.shape = case.shape or default_shape(self.model)
        labels = self.task if self.model.training else None
        data = batches(self.cfg, settings.repeats, case.batch, settings.images, self.shape, labels)
        self.data = [self._preprocessed(batch) for batch in data]
        if settings.part == "net" and case.checkpoint is None and hasattr(self.model, "roi_head"):
            self._lower_threshold()

    def _preprocessed(self, batch: dict) -> dict:
        sizes = {tuple(image.shape[-2:]) for image in batch["inputs"]}
        if len(sizes) > 1 and not self.model.training and self.task.equal_sizes:
            raise DataError(
                f"images of {len(sizes)} sizes make no batch for a {self.task.model} in testing; "
                "use a batch of 1, or images of one size"
            )
        data = self.model.data_preprocessor(batch, self.model.training)
        check_shape(self.model, tuple(data["inputs"].shape[-2:]))
        return data

    def forward(self, repeat: int) -> object:
        """Run the measured part on the batch of a repeat."""
        data, dtype = self.data[repeat % len(self.data)], PRECISIONS[self.settings.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            if self.settings.part == "backbone":
                return self.host(data["inputs"])
            return self.model(**data, mode="loss" if self.model.training else "predict")

    def count(self) -> list[Count]:
        """Count the operations and tokens of every batch."""
        root = self.host if self.settings.part == "backbone" else self.model
        return [count(partial(self.forward, repeat), root) for repeat in bar(range(len(self.data)), "counting")]

    @torch.no_grad()
    def _lower_threshold(self) -> None:
        """Lower the score threshold of a two-stage detector until ``CANDIDATES`` boxes per image pass.

        Random weights detect nothing, so the mask head would have no work.
        """
        heads, outputs = self.model.roi_head, []
        stages = heads.bbox_head if isinstance(heads.bbox_head, nn.ModuleList) else [heads.bbox_head]
        hooks = [stage.register_forward_hook(lambda _, args, out: outputs.append(out[0])) for stage in stages]
        self.forward(0)
        for hook in hooks:
            hook.remove()
        # Cascade R-CNN scores by the mean over its stages.
        scores = torch.stack(outputs).float().mean(0).softmax(-1)[:, :-1].flatten()
        heads.test_cfg.score_thr = scores.topk(min(CANDIDATES * self.case.batch, len(scores))).values[-1].item()


def _configured(case: BenchmarkCase) -> tuple[Config, str]:
    """Return the config with its reducer set as the case asks, and that setting in words."""
    cfg = read_config(case.config)
    reducer = cfg.model.backbone.get("reducer")
    if reducer is None:
        if case.cost_param is not None:
            raise ConfigError(
                f"config {case.config} has no reducer, so there is no {case.cost_param[0]} to set: give a pruned config"
            )
        return cfg, "dense"
    method = find_method(reducer.type)
    arguments = inspect.signature(method).parameters
    if case.cost_param is not None:
        _set(reducer, arguments, *case.cost_param)
    keep = case.keep or ("config" if case.checkpoint is None else "checkpoint")
    if keep == "checkpoint":
        if case.checkpoint is None:
            raise ConfigError(f"--keep-ratio checkpoint needs trained selectors: write {case.config}=CHECKPOINT")
        return cfg, "as trained"
    if "mode" in arguments:
        reducer.mode = "ratio"
    # ATS keeps as many tokens as an image needs, so its ratio is an upper bound.
    exactly = "exactly" if method.fixed_shapes else "at most"
    if keep == "config":
        return cfg, f"{exactly} as configured"
    _set(reducer, arguments, "keep_ratio", keep)
    return cfg, f"{exactly} keep_ratio={keep}"


def _with_random_weights(cfg: Config) -> nn.Module:
    """Return the model with the random weights of its dense counterpart.

    Heads with other weights would find boxes of another size, and pasting the masks of larger boxes can take longer
    than what pruning saves.
    """
    dense = copy.deepcopy(cfg)
    dense.model.backbone.pop("reducer", None)
    torch.manual_seed(0)
    model = build_model(cfg, None)
    torch.manual_seed(0)
    model.load_state_dict(build_model(dense, None).state_dict(), strict=False)
    return model


def _set(reducer: dict, arguments: Collection[str], key: str, value: float | str) -> None:
    if key not in arguments:
        name, cost_param = reducer["type"], find_method(reducer["type"]).cost_param[0]
        raise ConfigError(
            f"reducer {name} has no {key} to set; set its {cost_param} in a config "
            "(tools/analysis_tools/calibrate.py finds the value for a wanted cost)"
        )
    reducer[key] = value
