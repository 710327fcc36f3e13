"""An exported file in the place of a model: the same inputs, the same data samples.

Shapes: B images, h x w pixels, K classes, M objects.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from mmengine.utils import import_modules_from_strings
from torch import Tensor, nn

from token_pruning.analysis.trace import PassTrace, active_traces

from ..errors import ConfigError, DataError
from ..export import ExportedModel, paste_masks
from ..export.formats import SUFFIXES
from ..export.graphs import normalised
from ..export.metadata import TOKENS
from ..tasks import task_of
from .class_names import class_names
from .windows import window_corners

CONFIG_KEYS = ("default_scope", "custom_imports", "test_dataloader", "test_evaluator")
MASK_THR = 0.5


def is_exported(path: object) -> bool:
    """Return whether ``path`` is named as an exported file is."""
    return isinstance(path, (str, Path)) and Path(path).suffix in SUFFIXES


def portable_config(cfg: Config) -> str:
    """Return what a file must hold of its config, so that images become inputs as the config says.

    It is a Python literal, because JSON has no tuples and sizes must be some.
    """
    found = {key: cfg[key] for key in CONFIG_KEYS if key in cfg}
    test_cfg = cfg.model.get("test_cfg") or {}
    kept = {key: test_cfg[key] for key in ("mode", "crop_size", "stride") if key in test_cfg}
    loader = cfg.test_dataloader.dataset
    found["test_dataloader"] = dict(dataset=dict(pipeline=loader.pipeline))
    if found.get("test_evaluator"):
        evaluator = found["test_evaluator"]
        evaluators = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
        found["test_evaluator"] = [dict(type=str(one["type"])) for one in evaluators]
    return repr(dict(Config(dict(found, model=dict(type=str(cfg.model.type), test_cfg=kept))).to_dict()))


def evaluate_file(cfg: Config, path: str | Path) -> None:
    """Make the test of ``cfg``, whose data and evaluators stay, run a file in the place of the model.

    Raises:
        ConfigError: the file is of another task or other classes.
    """
    metadata = ExportedNetwork(path).file.metadata
    task, own, classes = task_of(cfg).name, metadata.get("classes", ()), class_names(cfg, None)
    if metadata["task"] != task:
        raise ConfigError(f"{path} is a file for {metadata['task']} and {cfg.filename} is for {task}")
    if own and classes and list(own) != list(classes):
        raise ConfigError(f"{path} has {_some(own)} and the data of {cfg.filename} {_some(classes)}")
    cfg.model, cfg.load_from = dict(type="mmengine.ExportedNetwork", path=str(path)), None


def _some(classes: Sequence[str]) -> str:
    more = ", ..." if len(classes) > 3 else ""
    return f"{len(classes)} classes ({', '.join(classes[:3])}{more})"


@MODELS.register_module()
class ExportedNetwork(nn.Module):
    """Runs a file on the batches of a test pipeline and returns the toolbox's data samples.

    Args:
        path: of a file that ``tools/export.py`` wrote.

    Attributes:
        cfg: the part of the config that the file holds.

    Raises:
        ConfigError: the file was exported without a config, or it holds features only.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.file = ExportedModel(path)
        metadata = self.file.metadata
        if "config" not in metadata or metadata["task"] is None:
            raise ConfigError(
                f"{path} does not say how an image becomes an input and a result: run it with "
                "mmcv_custom.export.ExportedModel, or export predictions with tools/export.py"
            )
        self.cfg = Config(ast.literal_eval(metadata["config"]))
        object.__setattr__(self.cfg, "_filename", str(path))  # the constructor would read the file as text
        self.test_cfg = self.cfg.model.get("test_cfg") or {}
        if "custom_imports" in self.cfg:
            import_modules_from_strings(**self.cfg.custom_imports)
        self.predict = dict(classification=self._classes, segmentation=self._label_maps, detection=self._objects)[
            metadata["task"]
        ]

    @property
    def patch(self) -> int:
        """Side of a token in pixels; files with tokens know it."""
        return self.file.metadata[TOKENS]["patch"]

    @property
    def pruned_blocks(self) -> tuple[int, ...]:
        """Blocks that may run on a subset of the tokens; files with tokens know them."""
        return tuple(self.file.metadata[TOKENS]["pruned_blocks"])

    def data_preprocessor(self, data: dict, training: bool = False) -> dict:
        """Return images (B, 3, h, w) as the file takes them, padded to the largest, and their samples."""
        # BGR as the pipeline packs it.
        found = [image.flip(0).clamp(0, 255).to(torch.uint8) for image in data["inputs"]]
        if not self.file.metadata["preprocessed"]:
            found = [normalised(image[None], self.file.metadata["normalisation"])[0] for image in found]
        size = [max(image.shape[side] for image in found) for side in (1, 2)]
        images = torch.stack([self._padded(image, size) for image in found])
        return dict(inputs=images, data_samples=data["data_samples"])

    @torch.no_grad()
    def test_step(self, data: dict) -> list[BaseDataElement]:
        """Return the samples of a batch with the predictions, as the models of the toolboxes do."""
        return self(**self.data_preprocessor(data))

    def forward(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement], mode: str = "predict"
    ) -> list[BaseDataElement]:
        """Return the samples with the predictions."""
        metadata = self.file.metadata
        scores = metadata["task"] == "segmentation" and "scores" in metadata["outputs"]
        found = self._windows(inputs) if scores else self._whole(inputs)
        for i, sample in enumerate(data_samples):
            self.predict(sample, {name: values[i] for name, values in found.items()})
        return list(data_samples)

    def _whole(self, images: Tensor) -> dict[str, Tensor]:
        """Run images of at most the file's size, padded at the bottom and right."""
        h, w = images.shape[-2:]
        size = self.file.size or tuple(-(-side // self.file.multiple) * self.file.multiple for side in (h, w))
        if h > size[0] or w > size[1]:
            raise DataError(
                f"an image has {h} x {w} pixels after the test pipeline, and {self.file.path} takes at most "
                f"{size[0]} x {size[1]}: export it with that --shape"
            )
        images = self._padded(images, size)
        step, parts = self.file.batch or len(images), []
        for part in images.split(step):
            lacking = step - len(part) if self.file.batch else 0
            out = self.file(torch.cat([part, part[-1:].expand(lacking, -1, -1, -1)]))
            parts.append({name: values[: len(part)] for name, values in out.items()})
        found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        if TOKENS in found:
            self._record(found.pop(TOKENS))
        return found

    def _padded(self, images: Tensor, size: Sequence[int]) -> Tensor:
        """Return images (..., 3, h, w) of ``size``, padded with what zero is to the model."""
        h, w = images.shape[-2:]
        if not self.file.metadata["preprocessed"]:
            return F.pad(images, (0, size[1] - w, 0, size[0] - h))
        how = self.file.metadata["normalisation"]
        mean = how["mean"] if how["channels"] == "RGB" else how["mean"][::-1]
        padded = torch.tensor(mean).round().to(images).view(3, 1, 1).expand(*images.shape[:-2], *size).clone()
        padded[..., :h, :w] = images
        return padded

    def _record(self, masks: Tensor) -> None:
        """Tell active recorders which tokens the blocks computed; ``masks``: (B, L, H, W) bool."""
        used = {block: masks[:, block].flatten(1) for block in range(masks.shape[1])}
        for trace in active_traces():
            trace.passes.append(PassTrace(tuple(masks.shape[2:]), 0, used))

    def _windows(self, images: Tensor) -> dict[str, Tensor]:
        """Average the scores of the windows that the config slides over the images, as mmseg does."""
        h, w = images.shape[-2:]
        if (
            self.test_cfg.get("mode") != "slide"
            or not self.file.size
            or (h <= self.file.size[0] and w <= self.file.size[1])
        ):
            scores = self._whole(images)["scores"]
            return dict(scores=scores[..., :h, :w])
        crop, total, shown = self.file.size, 0.0, images.new_zeros(h, w, dtype=torch.float32)
        for y, x in window_corners((h, w), crop, self.test_cfg.stride):
            area = (..., slice(y, min(y + crop[0], h)), slice(x, min(x + crop[1], w)))
            scores = self._whole(images[area])["scores"]
            if isinstance(total, float):
                total = scores.new_zeros(*scores.shape[:2], h, w)
            total[area] += scores[..., : min(crop[0], h), : min(crop[1], w)]
            shown[area] += 1
        return dict(scores=total / shown)

    @staticmethod
    def _classes(sample: BaseDataElement, found: dict[str, Tensor]) -> None:
        scores = found["probabilities"]
        sample.set_field(scores, "pred_score")
        sample.set_field(scores.argmax(0, keepdim=True), "pred_label")

    @staticmethod
    def _label_maps(sample: BaseDataElement, found: dict[str, Tensor]) -> None:
        """Set the label map at the size of the original image; a file without scores gives it by nearest labels."""
        h, w = sample.img_shape[:2]
        size = tuple(sample.ori_shape[:2])
        if "scores" in found:
            scores = F.interpolate(found["scores"][None, :, :h, :w], size, mode="bilinear", align_corners=False)[0]
            labels = scores.argmax(0) if len(scores) > 1 else (scores[0].sigmoid() > MASK_THR).long()
        else:
            labels = F.interpolate(found["labels"][None, None, :h, :w].float(), size, mode="nearest-exact")[0, 0].long()
        sample.set_field(PixelData(data=labels[None]), "pred_sem_seg")

    def _objects(self, sample: BaseDataElement, found: dict[str, Tensor]) -> None:
        """Set boxes and masks in pixels of the original image; objects in the padding are left out."""
        (h, w), size = sample.img_shape[:2], tuple(sample.ori_shape[:2])
        scale = torch.tensor(sample.get("scale_factor", (1.0, 1.0)), dtype=torch.float32)[:2].repeat(2)
        boxes = torch.minimum(found["boxes"], torch.tensor([w, h, w, h], dtype=torch.float32))
        there = (found["labels"] >= 0) & (boxes[:, 2:] > boxes[:, :2]).all(1)
        boxes = boxes[there]
        objects = InstanceData(scores=found["scores"][there], labels=found["labels"][there], bboxes=boxes / scale)
        if "masks" in found:
            masks = found["masks"][there]
            if masks.dtype == torch.bool:
                full = F.interpolate(masks[:, None, :h, :w].float(), size, mode="nearest-exact")[:, 0] > 0.5
            else:
                # Inside the boxes as the head saw them, which the edge of the image may cut.
                uncut = found["boxes"][there] / scale
                full = [paste_masks(m[None], b[None], size)[0] >= MASK_THR for m, b in zip(masks, uncut, strict=True)]
                full = torch.stack(full) if full else torch.zeros(0, *size, dtype=torch.bool)
            objects.masks = full
        sample.set_field(objects, "pred_instances")
