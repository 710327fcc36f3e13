"""Images to measure on: a folder's, through the config's own test pipeline, or synthetic ones.

Shapes: h x w pixels.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from torch import nn

from ..data.image_files import SUFFIXES, images_in, pipeline_steps
from ..data.synthetic import DETECTION, scene
from ..errors import DataError, building_from_config
from ..tasks import Task


def batches(
    cfg: Config,
    number: int,
    size: int = 1,
    folder: str | None = None,
    shape: tuple[int, int] = DETECTION,
    labels: Task | None = None,
) -> list[dict]:
    """Return up to ``number`` batches of ``size`` images, as a data loader of the config's task returns them.

    Args:
        folder: its first images by name (of class folders, one from each in turn), through the test pipeline; None
            generates one batch of ``shape`` (h, w).
        labels: task whose synthetic labels are added, for a training step.

    Raises:
        DataError: there is no such folder, or it has fewer images than one batch.
    """
    *load, pack = pipeline_steps(cfg)
    if folder is None:
        images = [_synthetic(*shape, seed) for seed in range(size)]
    else:
        files = image_files(folder, size)[: number * size]
        with building_from_config():
            pipeline = Compose(load)
        images = [pipeline(dict(img_path=str(file), img_id=i)) for i, file in enumerate(files)]
    steps = [pack]
    if labels is not None:
        steps = [*labels.load_labels, pack]
        for image in images:
            image.update(ori_shape=image["img_shape"], **labels.labels(*image["img_shape"]))
    packed = [Compose(steps)(image) for image in images]
    return [pseudo_collate(packed[i : i + size]) for i in range(0, len(packed) - size + 1, size)]


def check_shape(model: nn.Module, shape: tuple[int, int]) -> None:
    """Raise DataError if ``model`` takes images of one size only and ``shape`` (h, w) is another."""
    embed = model.backbone.patch_embed
    if embed.strict_img_size and tuple(shape) != tuple(embed.img_size):
        raise DataError(
            f"images of {shape[0]} x {shape[1]} pixels do not fit a {type(model.backbone).__name__} made "
            f"for {embed.img_size[0]} x {embed.img_size[1]}: give --shape {embed.img_size[0]} "
            f"{embed.img_size[1]} or none; the test pipeline must resize the images of a folder"
        )


def image_files(folder: str, least: int = 1) -> list[Path]:
    """Return the images of a folder.

    Raises:
        DataError: there is no such folder, or it has fewer than ``least`` images.
    """
    if not Path(folder).is_dir():
        raise DataError(f"--images {folder} is not a folder: give one that holds images")
    files = images_in(Path(folder), warnings.warn)
    if len(files) < least:
        raise DataError(
            f"--images {folder} holds {len(files)} images ({', '.join(SUFFIXES)}), fewer than one batch "
            f"of {least}: give another folder or a smaller batch"
        )
    return files


def _synthetic(height: int, width: int, seed: int) -> dict:
    """Return what a test pipeline holds before its packing step."""
    return dict(
        img=scene(height, width, seed),
        img_path=f"synthetic {seed}",
        img_id=seed,
        ori_shape=(height, width),
        img_shape=(height, width),
        scale_factor=(1.0, 1.0),
    )
