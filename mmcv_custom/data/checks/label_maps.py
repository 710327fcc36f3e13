"""Checks of label maps for semantic segmentation against their images and the classes of the config.

Shapes: label maps (h, w).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from ...errors import DataError
from ..image_files import check_image, left_out_of, list_folder, loaded_size

IGNORED = 255
PATHS = ("img_path", "seg_map_path")
CHECKED = 500  # image and label map pairs checked before training, evenly spread; loading checks every one


def check_label_maps(
    samples: Sequence[dict], load: Callable[[dict], dict], classes: Sequence[str], where: str, training: bool = True
) -> list[str]:
    """Check the label maps of a data set against its images and classes; return sentences on what they hold.

    Every image must exist and have a label map. In ``CHECKED`` pairs (all of a smaller set) both must have the same
    size, and the labels must be classes. Of the images only the headers are read. Where one class only was found in
    them, the others are read too.

    Args:
        samples: the data set's dicts, with ``img_path`` and ``seg_map_path``.
        load: the pipeline's step that reads ``seg_map_path`` into ``gt_seg_map`` (h, w).
        classes: their names, in the order of their labels.
        where: the place in the config that names the data set, for messages.
        training: more than one class must occur.

    Raises:
        DataError: a pair is incomplete or does not fit, or there is nothing to learn or to score.
    """
    if not samples:
        raise DataError(f"{where} has no images: check its data_prefix and img_suffix")
    _check_names([sample["img_path"] for sample in samples], f"images of {where} do not exist", "img_path")
    _check_names([sample["seg_map_path"] for sample in samples], f"images of {where} have no label map", "seg_map_path")
    maps: Counter = Counter()  # label -> number of label maps that hold it
    blank = []  # label maps of ignored pixels only
    read = 0
    for sample in _spread(samples):
        if read >= CHECKED and len(maps.keys() - {IGNORED}) >= min(2, len(classes)):
            break
        path = sample["seg_map_path"]
        size = loaded_size(sample["img_path"])[::-1]
        check_image(path)  # of a file that is cut short, the loader makes the rest up
        own, mode = _header(path)
        _check_size(path, own, size)
        if mode not in ("L", "P", "1"):
            raise DataError(
                f"label map {path} is not a grey or palette image of 8 bits (mode {mode}): save one number per pixel"
            )
        found = check_labels(path, load(dict(sample, ori_shape=size))["gt_seg_map"], size, len(classes))
        maps.update(found)
        blank += [path] if found == [IGNORED] else []
        read += 1
    reduced = bool(getattr(load, "reduce_zero_label", None) or samples[0].get("reduce_zero_label"))
    return _said(maps, blank, read, classes, where, training, reduced)


def _said(maps, blank, read, classes, where, training, reduced):
    """Return the sentences on which of the ``classes`` are in how many of the ``read`` label maps.

    With reduce_zero_label the files hold labels from 1, and 0 for what is ignored.
    """
    first, ignored = (1, f"0 or {IGNORED}") if reduced else (0, f"{IGNORED}")
    aim = "train on" if training else "score"
    what = f"the {read} label maps of {where}" if read != 1 else f"the only label map of {where}"
    if len(blank) == read:
        raise DataError(
            f"all pixels of {what} are ignored (label {ignored}): there is nothing to {aim}, write {first} to "
            f"{first + len(classes) - 1} or correct reduce_zero_label, which is {reduced}"
        )
    advice = [f"{len(blank)} of {what} have ignored pixels only (first: {blank[0]})"] if blank else []
    absent = [name for label, name in enumerate(classes) if not maps[label]]
    if absent:
        sentence = f"no pixel of class {_listed(absent)} in {what}"
        if maps[IGNORED]:
            label = first + list(classes).index(absent[0])
            sentence += (
                f", and {maps[IGNORED]} of them hold {ignored}, which is ignored: if it means class {absent[0]}, "
                f"write {label} in the files or set merge in LoadAnnotations"
            )
            if len(classes) == 2:
                sentence += " (merge=[0] * 128 + [1] * 128)"
        if training and len(absent) == len(classes) - 1:
            raise DataError(sentence + ("" if maps[IGNORED] else ": one class alone teaches nothing, correct the maps"))
        advice.append(sentence)
    if training:
        rarest = sorted((maps[label], label) for label in range(len(classes)))
        advice.append(f"classes in {what}: {_listed([f'{classes[label]} in {n}' for n, label in rarest], 20)}")
    return advice


def _spread(samples):
    """Yield ``CHECKED`` samples, evenly spread, and then the others."""
    step = max(1, len(samples) / CHECKED)
    first = [int(i * step) for i in range(min(CHECKED, len(samples)))]
    yield from (samples[i] for i in first)
    chosen = set(first)
    yield from (sample for i, sample in enumerate(samples) if i not in chosen)


def images_left_out(samples: Sequence[dict], folder: str, suffix: str) -> list[str]:
    """Return the sentence, if any, on files in ``folder`` that a data set of images that end in ``suffix`` lacks."""
    taken = {os.path.relpath(path, folder) for sample in samples for path in map(sample.get, PATHS) if path}
    images, others = list_folder(folder, deep=True)
    names = [name for name in images + others if name not in taken]
    return [left_out_of(folder, names, f"hidden or not ending in img_suffix {suffix}")] if names else []


def check_labels(path: str, labels: np.ndarray, size: Sequence[int], classes: int) -> list[int]:
    """Check ``labels`` (h, w), loaded from ``path`` as for training; return those that occur.

    Args:
        path: file of the label map, for messages.
        labels: (h, w) integers.
        size: (h, w) of the image.
        classes: number of classes.

    Raises:
        DataError: the sizes differ, or a label is not a class.
    """
    _check_size(path, labels.shape, size)
    found = np.flatnonzero(np.bincount(labels.ravel())).tolist()
    unknown = [label for label in found if label >= classes and label != IGNORED]
    if unknown:
        raise DataError(
            f"label map {path} has label {_listed(unknown)} and there are {classes} classes, labels 0 to "
            f"{classes - 1} ({IGNORED}: ignored): correct the file, the classes or reduce_zero_label"
        )
    return found


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


def _listed(names, most=5):
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
