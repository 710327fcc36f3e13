"""What a folder of images and labels holds, for each of the three tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EVERY = 5  # of one set, each fifth image is for validation


@dataclass
class Picture:
    """An image with its objects.

    Attributes:
        file: the image.
        objects: annotations in COCO's fields, without ids: ``category`` (a name), ``bbox`` (x, y, w, h) and, where they
            are known, ``segmentation``, ``area``, ``iscrowd``.
    """

    file: Path
    objects: list[dict] = field(default_factory=list)


@dataclass
class Objects:
    """Images with boxes, for detection.

    Attributes:
        form: what kind of folder it is, for people.
        classes: names, in the order of the labels.
        splits: "train" and "val" -> images.
        notes: what was decided on the way, one sentence each.
    """

    form: str
    classes: Sequence[str]
    splits: Mapping[str, Sequence[Picture]]
    notes: list[str] = field(default_factory=list)
    task = "detect"

    @property
    def masks(self) -> bool:
        """Whether every object has a mask."""
        found = [o.get("segmentation") for pictures in self.splits.values() for p in pictures for o in p.objects]
        return bool(found) and all(found)


@dataclass
class LabelMaps:
    """Images with a class for every pixel, for semantic segmentation.

    Attributes:
        form, classes, notes: as in ``Objects``.
        splits: "train" and "val" -> pairs (image, label map).
        table: value of the label maps, or RGB colour -> class number; what is not in it is ignored.
    """

    form: str
    classes: Sequence[str]
    splits: Mapping[str, Sequence[tuple[Path, Path]]]
    table: Mapping[int | tuple[int, int, int], int]
    notes: list[str] = field(default_factory=list)
    task = "segment"


@dataclass
class ClassFolders:
    """Images with one class each, for classification.

    Attributes:
        form, classes, notes: as in ``Objects``.
        splits: "train" and "val" -> pairs (image, class number).
    """

    form: str
    classes: Sequence[str]
    splits: Mapping[str, Sequence[tuple[Path, int]]]
    notes: list[str] = field(default_factory=list)
    task = "classify"


def split(items: Sequence, notes: list[str], what: str = "images") -> dict[str, list]:
    """Split one set by a fixed rule: of each five items in natural order, the fifth is for validation."""
    val = set(range(EVERY - 1, len(items), EVERY)) or {len(items) - 1}
    parts = {
        "train": [item for i, item in enumerate(items) if i not in val],
        "val": [item for i, item in enumerate(items) if i in val],
    }
    sentence = f"there is one set only: every fifth of the {what} in order of their names is for validation"
    if sentence not in notes:
        notes.append(sentence)
    return parts
