"""Checks of label maps for semantic segmentation against their images and the classes of the config.

Shapes: label maps (h, w).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from ...errors import DataError

IGNORED = 255
CHECKED = 500  # image and label map pairs checked before training, evenly spread; loading checks every one


def check_label_maps(samples: Sequence[dict], load: Callable[[dict], dict], classes: int, where: str) -> None:
    """Check the label maps of a data set against its images and its number of classes.

    Every image must exist and have a label map. In ``CHECKED`` pairs (all of a smaller set) both must have the same
    size, and the labels must be classes. Of the images only the headers are read.

    Args:
        samples: the data set's dicts, with ``img_path`` and ``seg_map_path``.
        load: the pipeline's step that reads ``seg_map_path`` into ``gt_seg_map`` (h, w).
        classes: number of classes.
        where: the place in the config that names the data set, for messages.

    Raises:
        DataError: a pair is incomplete or does not fit.
    """
    if not samples:
        raise DataError(f"{where} has no images: check its data_prefix and img_suffix")
    _check_names([sample["img_path"] for sample in samples], f"images of {where} do not exist", "img_path")
    _check_names([sample["seg_map_path"] for sample in samples], f"images of {where} have no label map", "seg_map_path")
    step = max(1, len(samples) / CHECKED)
    for sample in (samples[int(i * step)] for i in range(min(CHECKED, len(samples)))):
        path = sample["seg_map_path"]
        size, _ = _header(sample["img_path"])
        own, mode = _header(path)
        _check_size(path, own, size)
        if mode not in ("L", "P", "1"):
            raise DataError(
                f"label map {path} is not a grey or palette image of 8 bits (mode {mode}): save one number per pixel"
            )
        check_labels(path, load(dict(sample, ori_shape=size))["gt_seg_map"], size, classes)


def check_labels(path: str, labels: np.ndarray, size: Sequence[int], classes: int) -> None:
    """Check ``labels`` (h, w), loaded from ``path`` as for training, against image size and number of classes.

    Args:
        path: file of the label map, for messages.
        labels: (h, w) integers.
        size: (h, w) of the image.
        classes: number of classes.

    Raises:
        DataError: the sizes differ, or a label is not a class.
    """
    _check_size(path, labels.shape, size)
    found = np.flatnonzero(np.bincount(labels.ravel()))
    unknown = [int(label) for label in found if label >= classes and label != IGNORED]
    if unknown:
        raise DataError(
            f"label map {path} has label {_listed(unknown)} and there are {classes} classes, labels 0 to "
            f"{classes - 1} ({IGNORED}: ignored): correct the file, the classes or reduce_zero_label"
        )


def _check_size(path, size, wanted):
    if len(size) != 2:
        raise DataError(f"label map {path} is a colour image: save one number per pixel")
    if tuple(size) != tuple(wanted[:2]):
        raise DataError(
            f"label map {path} is {size[0]} x {size[1]} and its image {wanted[0]} x {wanted[1]} (height "
            "x width): labels would lie beside what they name, make both alike"
        )


def _check_names(paths, what, prefix):
    listings = {
        folder: set(os.listdir(folder)) if os.path.isdir(folder) else set()
        for folder in {os.path.dirname(path) for path in paths}
    }
    absent = [path for path in paths if os.path.basename(path) not in listings[os.path.dirname(path)]]
    if absent:
        raise DataError(
            f"{len(absent)} of the {len(paths)} {what} (first: {absent[0]}): put them there or check "
            f"data_prefix.{prefix} and the suffixes"
        )


def _header(path):
    """Return (h, w) and mode of an image without decoding it."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size[::-1], image.mode
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}): save it again or take it out") from None


def _listed(labels):
    return ", ".join(map(str, labels[:5])) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
