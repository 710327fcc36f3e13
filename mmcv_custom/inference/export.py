"""Export of a predictor's model, with images and the config that the file needs to predict by itself.

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..data.image_files import check_image, images_in
from ..data.synthetic import default_shape, scene
from ..errors import ConfigError, DataError
from ..export import Exported, export_model
from ..export.graphs import normalised
from ..export.metadata import normalisation
from .exported import portable_config

if TYPE_CHECKING:
    from .predictor import Predictor

MOST = 64  # images that calibrate


def export(
    predictor: Predictor,
    path: str | Path,
    format: str | None = None,
    *,
    shape: Sequence[int] | None = None,
    batch: int = 1,
    images: str | Path | None = None,
    calibrate: str | Path | None = None,
    preprocess: bool = False,
    **options: object,
) -> Exported:
    """Export the model of ``predictor`` to ``path``; ``Predictor(path)`` then predicts with the file.

    Args:
        predictor: made from a config.
        path, format: see ``mmcv_custom.export.export_model``.
        shape: (h, w) of the file's input; default: that of ``default_shape``.
        batch: number of images of the file's input.
        images: folder whose first images the file is compared on; default: generated ones.
        calibrate: folder whose first 64 images show int8 which values occur.
        preprocess, options: see ``export_model``.

    Raises:
        ConfigError, DataError: see ``export_model``; the folders have too few images.
    """
    if batch < 1:
        raise ConfigError(f"a batch of {batch} images is not possible: give 1 or more")
    size = tuple(shape or default_shape(predictor.model))
    if min(size) < 1:
        raise ConfigError(f"a shape of {size[0]} x {size[1]} pixels is not possible: give --shape HEIGHT WIDTH")
    shown = [scene(*size, seed) for seed in range(batch)] if images is None else loaded(images, size, 2 * batch, batch)
    example, *check = inputs(predictor, shown, batch, preprocess)
    values = loaded(calibrate, size, MOST, batch) if calibrate is not None else []
    return export_model(
        predictor.model,
        example,
        path,
        format,
        preprocess=preprocess,
        calibration=inputs(predictor, values, batch, preprocess),
        check=check,
        metadata=about(predictor),
        **options,
    )


def about(predictor: Predictor) -> dict[str, object]:
    """Return what a file of the predictor's model says besides what the program shows."""
    return dict(
        classes=list(predictor.classes),
        reducer=predictor.reducer_config,
        setting=predictor.setting,
        config=portable_config(predictor.cfg),
    )


def inputs(
    predictor: Predictor, arrays: Iterable[np.ndarray], batch: int = 1, preprocess: bool = False
) -> list[Tensor]:
    """Return RGB images (h, w, 3) uint8 as inputs (B, 3, h, w) of a file: normalised, without an incomplete batch.

    Args:
        predictor: of the model.
        arrays: images of one size.
        batch: B.
        preprocess: the file normalises, so that its inputs stay uint8.
    """
    how = normalisation(predictor.model.data_preprocessor)
    tensors = [torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1) for array in arrays]
    parts = [torch.stack(tensors[i : i + batch]) for i in range(0, len(tensors) - batch + 1, batch)]
    return [part if preprocess else normalised(part, how) for part in parts]


def loaded(folder: str | Path, size: tuple[int, int], most: int, least: int) -> list[np.ndarray]:
    """Return the first images of ``folder`` as (h, w, 3) uint8 RGB of ``size``."""
    from PIL import Image, ImageOps

    if not Path(folder).is_dir():
        raise DataError(f"folder {folder} does not exist: check the path")
    files = images_in(Path(folder))[:most]
    if len(files) < least:
        raise DataError(f"folder {folder} has {len(files)} images, and a batch needs {least}: give another folder")
    found = []
    for file in files:
        check_image(str(file))
        image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
        found.append(np.array(image.resize(size[::-1], Image.Resampling.BILINEAR)))
    return found
