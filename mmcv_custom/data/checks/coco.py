"""Checks of COCO-format annotation files against the config."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from ...errors import DataError

_NEEDED = {
    "images": {"id", "file_name"},
    "annotations": {"image_id", "category_id", "bbox"},
    "categories": {"id", "name"},
}


def check_coco(
    content: dict, ann_file: str, classes: Sequence[str] | None, where: str = "the dataset", training: bool = True
) -> list[str]:
    """Check the ``content`` of a COCO-format file against the config's ``classes`` and return sentences of advice.

    ``check_datasets`` lists what is checked.

    Raises:
        DataError: something that cannot work.
    """
    if isinstance(classes, str):
        raise DataError(f"{where}.metainfo.classes is the text {classes!r}: write a tuple, ({classes!r},)")
    classes = list(classes or [])
    names = {c.get("id"): c.get("name") for c in content["categories"]}
    absent = [c for c in classes if c not in names.values()]
    if absent:
        raise DataError(
            f"{_listed(absent)} of {where}.metainfo.classes {_are(absent)} not among the categories of {ann_file} "
            f"({_listed(list(names.values()))}), which would shift all labels: set metainfo=dict(classes=...) to the "
            "file's names"
        )
    kept = [i for i, name in names.items() if name in classes]
    if [names[i] for i in kept] != classes:
        raise DataError(
            f"{where}.metainfo.classes is not in the order of {ann_file}, whose order numbers the labels: "
            f"write ({_listed([names[i] for i in kept])})"
        )
    if not content["images"]:
        raise DataError(f"{ann_file} lists no images: {where} would be empty")
    counts = {}
    for annotation in content["annotations"]:
        counts[annotation.get("category_id")] = counts.get(annotation.get("category_id"), 0) + 1
    unlisted = sorted(str(i) for i in counts if i not in names)
    if unlisted:
        raise DataError(
            f"annotations of {ann_file} have category id {_listed(unlisted)}, which its categories do not list "
            f"({_listed([str(i) for i in names])}): they would be skipped, correct the file"
        )
    used = sum(n for i, n in counts.items() if i in kept)
    if not used and training:
        raise DataError(f"{ann_file} has no annotation of the {len(classes)} classes of {where}: nothing to train on")
    if not used:
        return [f"{ann_file} has no annotation of the {len(classes)} classes of {where}: no score can be computed"]
    if used < sum(counts.values()):
        others = [names[i] for i in counts if i not in kept]
        return [
            f"{sum(counts.values()) - used} annotations of {ann_file} are ignored: "
            f"{_listed(others)} {_are(others)} not among metainfo.classes"
        ]
    return []


def check_coco_images(content: dict, ann_file: str, folder: str, where: str) -> None:
    """Check that all images of a COCO-format file are in ``folder``: a missing one would end training mid-epoch."""
    listing = set(os.listdir(folder))  # one listing instead of a hundred thousand look-ups
    names = [image["file_name"] for image in content["images"]]
    absent = [n for n in names if n not in listing and not os.path.exists(os.path.join(folder, n))]
    if absent:
        raise DataError(
            f"{len(absent)} of the {len(names)} images of {ann_file} are not in {folder} ({_listed(absent)}): "
            f"put them there or check {where}.data_prefix.img"
        )


def read_coco(ann_file: str) -> dict:
    """Read a COCO-format annotation file.

    Raises:
        DataError: it is not JSON, or not in COCO format.
    """
    try:
        with open(ann_file, encoding="utf-8") as f:
            content = json.load(f)
    except (OSError, ValueError) as error:
        raise DataError(f"annotation file {ann_file} is not JSON that can be read ({error})") from None
    lacking = [k for k in ("images", "annotations", "categories") if not isinstance(content, dict) or k not in content]
    if lacking == ["annotations"]:  # test sets without ground truth
        content["annotations"], lacking = [], []
    if lacking:
        raise DataError(f"annotation file {ann_file} has no {' and no '.join(lacking)}: it is not in COCO format")
    for part, needed in _NEEDED.items():
        entries = content[part]
        if not isinstance(entries, list) or not all(isinstance(e, dict) and needed <= e.keys() for e in entries):
            raise DataError(
                f"annotation file {ann_file} is not in COCO format: {part} must be a list of entries with "
                f"{' and '.join(sorted(needed))}"
            )
    return content


def _listed(names):
    names = [str(n) for n in names]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _are(names):
    return "is" if len(names) == 1 else "are"
