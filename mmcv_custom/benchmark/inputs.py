"""Images to measure on: a folder's, through the config's own test pipeline, or synthetic ones.

Shapes: h x w pixels, n objects.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from torch import nn

from ..data.image_files import SUFFIXES, images_in, pipeline_steps
from ..data.synthetic import objects, scene
from ..errors import DataError

DETECTION = (800, 1344)  # pixels: what COCO's images mostly become


def batches(
    cfg: Config,
    number: int,
    size: int = 1,
    folder: str | None = None,
    shape: tuple[int, int] = DETECTION,
    annotated: bool = False,
) -> list[dict]:
    """Up to ``number`` batches of ``size`` images, as a data loader of the config's task hands them on.

    Args:
        folder: its first images by name (of class folders, one from each in turn), through the test pipeline; None
            paints one batch of ``shape`` (h, w).
        annotated: with made-up labels, boxes and masks, for a training step.

    Raises:
        DataError: no such folder, or fewer images in it than one batch.
    """
    *load, pack = pipeline_steps(cfg)
    if folder is None:
        found = [_synthetic(*shape, seed) for seed in range(size)]
    else:
        load = Compose(load)
        found = [load(dict(img_path=str(file), img_id=i)) for i, file in enumerate(_files(folder, number * size, size))]
    if annotated:
        for result in found:
            result.update(ori_shape=result["img_shape"], **_labels(pack["type"], *result["img_shape"]))
    boxes = [dict(type="LoadAnnotations", with_bbox=True, with_mask=True)]
    pack = Compose(boxes * (annotated and pack["type"] == "PackDetInputs") + [pack])
    found = [pack(result) for result in found]
    return [pseudo_collate(found[i : i + size]) for i in range(0, len(found) - size + 1, size)]


def usual_shape(model: nn.Module) -> tuple[int, int]:
    """(h, w) of synthetic images for a model: what it was made for, as far as it tells; else a detector's."""
    embed = model.backbone.patch_embed
    if embed.img_size:
        return tuple(embed.img_size)
    return tuple(getattr(model.data_preprocessor, "size", None) or DETECTION)


def check_shape(model: nn.Module, shape: tuple[int, int]) -> None:
    """Raise DataError when ``model`` takes images of one size only and ``shape`` (h, w) is another."""
    embed = model.backbone.patch_embed
    if embed.strict_img_size and tuple(shape) != tuple(embed.img_size):
        raise DataError(
            f"images of {shape[0]} x {shape[1]} pixels do not fit a {type(model.backbone).__name__} made "
            f"for {embed.img_size[0]} x {embed.img_size[1]}: give --shape {embed.img_size[0]} "
            f"{embed.img_size[1]} or none; images of a folder have to be resized by the test pipeline"
        )


def _files(folder: str, number: int, least: int) -> list[Path]:
    if not Path(folder).is_dir():
        raise DataError(f"--images {folder} is not a folder: give one that holds images")
    files = images_in(Path(folder))
    if len(files) < least:
        raise DataError(
            f"--images {folder} holds {len(files)} images ({', '.join(SUFFIXES)}), fewer than one batch "
            f"of {least}: give another folder or a smaller batch"
        )
    return files[:number]


def _synthetic(height: int, width: int, seed: int) -> dict:
    """What a test pipeline holds before its last step."""
    return dict(
        img=scene(height, width, seed),
        img_path=f"synthetic {seed}",
        img_id=seed,
        ori_shape=(height, width),
        img_shape=(height, width),
        scale_factor=(1.0, 1.0),
    )


def _labels(pack: str, height: int, width: int) -> dict:
    """What ``pack``, the last step of a task, takes labels from."""
    if pack == "PackInputs":
        return dict(gt_label=0)
    if pack == "PackSegInputs":
        return dict(gt_seg_map=np.zeros((height, width), np.uint8), seg_fields=["gt_seg_map"])
    return dict(instances=_instances(height, width))


def _instances(height: int, width: int) -> list[dict]:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return [
        dict(
            bbox=box.tolist(),
            bbox_label=0,
            ignore_flag=0,
            mask=[((box[:2] + box[2:]) / 2 + circle * (box[2:] - box[:2]) / 2).ravel().tolist()],
        )
        for box in objects(height, width)
    ]
