"""Reading of COCO-format annotation files, with what is safe to complete completed in memory."""

from __future__ import annotations

import json
import math
import os

from ..errors import DataError

TABLES = ("images", "annotations", "categories")


def read_coco(path: str | os.PathLike) -> dict:
    """Return the content of a COCO-format file; a test set's missing list of annotations is empty.

    Byte order marks and UTF-16 are understood.

    Raises:
        DataError: the file is missing, is not JSON, or is not in COCO format.
    """
    try:
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError:
        raise DataError(f"annotation file {path} does not exist: see data/README.md for what goes where") from None
    except OSError as error:
        raise DataError(
            f"annotation file {path} cannot be read ({error.strerror}): check the path and its permissions"
        ) from None
    if not text.strip():
        raise DataError(f"annotation file {path} is empty: download or create it again")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"annotation file {path} is not JSON ({error}): download or create it again") from None
    if not isinstance(content, dict):
        kind = {list: "list", str: "text", bool: "truth value", type(None): "null"}.get(type(content), "number")
        raise DataError(
            f"annotation file {path} holds a JSON {kind} and is not in COCO format: it needs an "
            f"object with the keys {', '.join(TABLES)}"
        )
    if content.get("annotations") is None:
        content["annotations"] = []
    lacking = [table for table in TABLES if not isinstance(content.get(table), list)]
    if lacking:
        raise DataError(
            f"annotation file {path} has no list of {' and no list of '.join(lacking)}: it is not in COCO format"
        )
    return content


def complete(content: dict) -> dict:
    """Fill what the annotations of a sound file (``checks.coco_faults``) may lack, in place, and return ``content``.

    A missing area is the box's, a missing iscrowd is 0. Ids of annotations, which nothing refers to, are counted from
    1: pycocotools takes an object whose id is 0 for one that no detection has found.
    """
    for number, annotation in enumerate(content["annotations"], 1):
        annotation["id"] = number
        if annotation.get("area") is None:
            annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
        if annotation.get("iscrowd") is None:
            annotation["iscrowd"] = 0
    return content


def is_number(value: object) -> bool:
    """Return whether a JSON value is a finite number; whole ones of more than 64 bits, which JSON allows, are none."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, float) and math.isfinite(value)
