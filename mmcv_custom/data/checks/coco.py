"""Checks of COCO-format annotation files against the config and the images."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ...errors import DataError
from ..coco_file import complete, read_coco
from ..image_files import loaded_size
from .coco_faults import COMPLETED, DEGENERATE, NOTED, REFUSED, coco_faults, entries, key
from .coco_usage import coco_usage, skipped_because
from .findings import Findings

CHECKED = 5000  # images whose headers are read before training, evenly spread; loading checks every one
OTHER_SIZE = "images of another size than in the annotation file"
OTHER_SIZE_CURE = (
    "boxes and masks do not fit: use the images that the file was made for, or create it again from the images as "
    "they are loaded, turned by their EXIF orientation"
)


def check_coco(
    ann_file: str,
    classes: Sequence[str] | None,
    where: str = "the dataset",
    training: bool = True,
    masks: bool = False,
    min_size: int = 0,
) -> tuple[dict, list[str]]:
    """Check a COCO-format file against the config's ``classes``; return its content and sentences for the user.

    Args:
        ann_file: path of the file.
        classes: class names of the data set.
        where: the place in the config that names the data set, for messages.
        training: whether it is trained on, or evaluated.
        masks: whether its segmentations are read.
        min_size: shortest side in px of the images that are trained on.

    Raises:
        DataError: something that cannot work.
    """
    content = read_coco(ann_file)
    refused, noted = Findings(), Findings()
    known = {key(c.get("id")) for c in entries(content, "categories") if c.get("name") in (classes or [])}

    def reads_mask(annotation, size):
        return masks and not skipped_because(
            annotation, size, key(annotation.get("category_id")) in known, training, min_size
        )

    for fault in coco_faults(content, reads_mask):
        if fault.effect == REFUSED:
            refused.add(*fault[:3])
        elif fault.effect in (COMPLETED, NOTED) or (fault.kind == DEGENERATE and not training):
            noted.add(*fault[:3])
    for sentence in refused.sentences(ann_file):
        raise DataError(sentence)
    classes = _check_classes(content, ann_file, classes, where)
    if not content["images"]:
        raise DataError(f"{ann_file} lists no images: {where} would be empty")
    usage = coco_usage(complete(content), classes, training, min_size)
    if not usage.used and (training or content["annotations"]):
        raise DataError(
            f"{ann_file} has no annotation of the {len(classes)} classes of {where} that counts, so there is nothing "
            f"to {'train on' if training else 'evaluate'}: {usage.sentence()}"
        )
    advice = list(noted.sentences(ann_file))
    if not usage.used:
        advice.append(
            f"{ann_file} has no annotation of the {len(classes)} classes of {where}: no score can be computed"
        )
    elif training or usage.skipped:
        unused = [name for name in classes if name not in usage.used] if training else []
        advice.append(f"{ann_file}: {usage.sentence()}{f'; none of {_listed(unused)}' if unused else ''}")
    return content, advice


def check_coco_images(content: dict, ann_file: str, folder: str, where: str) -> None:
    """Check that all images of a COCO-format file are in ``folder`` and have the file's sizes.

    A missing image would end training mid-epoch; of images of another size the boxes lie elsewhere.

    Raises:
        DataError: an image is missing, is no image or has another size.
    """
    listing = set(os.listdir(folder))  # one listing instead of a hundred thousand look-ups
    images = content["images"]
    names = [image["file_name"] for image in images]
    absent = [n for n in names if n not in listing and not os.path.exists(os.path.join(folder, n))]
    if absent:
        raise DataError(
            f"{len(absent)} of the {len(names)} images of {ann_file} are not in {folder} ({_listed(absent)}): "
            f"put them there or check {where}.data_prefix.img"
        )
    step = max(1, len(images) / CHECKED)
    findings = Findings()
    for image in (images[int(i * step)] for i in range(min(CHECKED, len(images)))):
        found = loaded_size(os.path.join(folder, image["file_name"]))
        if found != (image["width"], image["height"]):
            findings.add(OTHER_SIZE, size_difference(image, found), OTHER_SIZE_CURE)
    for sentence in findings.sentences(ann_file):
        raise DataError(sentence)


def size_difference(image: dict, found: tuple[int, int]) -> str:
    """Say the size ``found`` (width, height) of an image and the one that its entry in the annotation file has."""
    return f"{image['file_name']} is {found[0]} x {found[1]}, not {image['width']} x {image['height']}"


def _check_classes(content, ann_file, classes, where):
    if isinstance(classes, str):
        raise DataError(f"{where}.metainfo.classes is the text {classes!r}: write a tuple, ({classes!r},)")
    classes = list(classes or [])
    names = [category["name"] for category in content["categories"]]
    absent = [c for c in classes if c not in names]
    if absent:
        raise DataError(
            f"{_listed(absent)} of {where}.metainfo.classes {'is' if len(absent) == 1 else 'are'} not among the "
            f"categories of {ann_file} ({_listed(names)}), which would shift all labels: set "
            "metainfo=dict(classes=...) to the file's names"
        )
    kept = [name for name in names if name in classes]
    if kept != classes:
        raise DataError(
            f"{where}.metainfo.classes is not in the order of {ann_file}, whose order numbers the labels: "
            f"write ({_listed(kept)})"
        )
    return classes


def _listed(names):
    names = [str(n) for n in names]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
