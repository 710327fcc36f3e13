"""What a model found in one image: of a detector, a segmentor, a classifier.

Shapes: h x w pixels of the image as it was given, n objects, K classes.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from token_pruning import PassTrace

from ..errors import ConfigError, DataError
from ..files import replacing
from . import visualize
from .token_view import TokenView

# COCO's 80 classes are numbered up to 90 in its files.
COCO_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


@dataclass(frozen=True)
class Result(ABC):
    """Attributes:
    image: (h, w, 3) uint8 RGB, the image as it was given.
    path: its file; None of an array.
    classes: K names.
    tokens: which tokens the forward computed, as numbers and images; None of a backbone that records nothing.
    sample: the toolbox's own result (DetDataSample, SegDataSample, DataSample).
    """

    image: np.ndarray
    path: str | None
    classes: tuple[str, ...]
    tokens: TokenView | None
    sample: object

    task = ""

    @property
    def trace(self) -> PassTrace:
        """Of the forward; of windows that slid over the image, the first one's (``tokens.windows`` has all).

        Raises:
            ConfigError: the backbone recorded nothing.
        """
        if self.tokens is None:
            raise ConfigError("there is no trace: the backbone is none of this project's (or a compiled one)")
        return self.tokens.windows[0].trace

    def name(self, label: int) -> str:
        """Of a class."""
        return self.classes[label] if label < len(self.classes) else str(label)

    @abstractmethod
    def draw(self, palette: Sequence | None = None):
        """PIL image: the image with what was found. ``palette``: K RGB colours (default: colour-blind-safe ones)."""

    def show(self) -> None:
        """Open the drawn image in the desktop's viewer. Raises ConfigError where there is no display."""
        check_display()
        self.draw().show()

    def save(self, path: str | Path) -> None:
        """Write the drawn image, in the format of the path's suffix. Raises DataError where that cannot be."""
        save_image(self.draw(), path)

    @abstractmethod
    def to_coco(self, image_id: int = 0, category_ids: Sequence[int] | None = None) -> list[dict]:
        """Entries as in COCO's result files. ``category_ids``: K numbers of the classes in the file that they are
        compared with (default: 1, 2, ..., and COCO's own for its 80 classes)."""

    def to_dict(self) -> dict:
        """The numbers, for JSON; ``tokens`` among them."""
        return dict(
            drawing=self.path,
            size=list(self.image.shape[:2]),
            task=self.task,
            **self._found(),
            tokens=self.tokens and self.tokens.to_dict(),
        )

    @abstractmethod
    def _found(self) -> dict:
        """What is special to the task."""

    def _category(self, label: int, category_ids: Sequence[int] | None) -> int:
        if category_ids is not None:
            return int(category_ids[label])
        if len(self.classes) == 80 and (self.classes[0], self.classes[-1]) == ("person", "toothbrush"):
            return [i for i in range(1, 91) if i not in COCO_GAPS][label]
        return label + 1


@dataclass(frozen=True)
class Detection(Result):
    """Attributes:
    boxes: (n, 4) float32, x1, y1, x2, y2 in pixels; by falling score.
    scores: (n,) float32.
    labels: (n,) int64.
    masks: (n, h, w) bool, or None of a detector without masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None

    task = "detection"

    @property
    def names(self) -> list[str]:
        """Of the classes of the n objects."""
        return [self.name(label) for label in self.labels.tolist()]

    def above(self, score: float) -> Detection:
        """Only the objects of at least that score."""
        keep = self.scores >= score
        masks = None if self.masks is None else self.masks[keep]
        return replace(self, boxes=self.boxes[keep], scores=self.scores[keep], labels=self.labels[keep], masks=masks)

    def draw(self, palette: Sequence | None = None):
        return visualize.detections(self.image, self.boxes, self.scores, self.labels, self.names, self.masks, palette)

    def to_coco(self, image_id: int = 0, category_ids: Sequence[int] | None = None) -> list[dict]:
        found = []
        for i, (x1, y1, x2, y2) in enumerate(self.boxes.tolist()):
            entry = dict(
                image_id=image_id,
                category_id=self._category(int(self.labels[i]), category_ids),
                bbox=[x1, y1, x2 - x1, y2 - y1],
                score=float(self.scores[i]),
            )
            found.append(entry if self.masks is None else entry | dict(segmentation=_run_lengths(self.masks[i])))
        return found

    def _found(self) -> dict:
        return dict(
            objects=[
                dict(name=name, label=int(label), score=float(score), box=box)
                for name, label, score, box in zip(
                    self.names, self.labels, self.scores, self.boxes.tolist(), strict=True
                )
            ]
        )


@dataclass(frozen=True)
class Segmentation(Result):
    """Attributes:
    map: (h, w) int64, the class of every pixel.
    """

    map: np.ndarray

    task = "segmentation"

    def shares(self) -> dict[str, float]:
        """Name -> share of the pixels, of the classes that are there, the largest first."""
        labels, counts = np.unique(self.map, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {self.name(int(labels[i])): float(counts[i] / self.map.size) for i in order}

    def draw(self, palette: Sequence | None = None, legend: bool = True):
        return visualize.segmentation(self.image, self.map, self.name, palette, legend)

    def to_coco(self, image_id: int = 0, category_ids: Sequence[int] | None = None) -> list[dict]:
        return [
            dict(
                image_id=image_id,
                category_id=self._category(int(label), category_ids),
                segmentation=_run_lengths(self.map == label),
            )
            for label in np.unique(self.map)
        ]

    def _found(self) -> dict:
        return dict(shares=self.shares())


@dataclass(frozen=True)
class Classification(Result):
    """Attributes:
    scores: (K,) float32, sum to 1.
    """

    scores: np.ndarray

    task = "classification"

    def top(self, number: int = 5) -> list[tuple[str, float]]:
        """Names and scores of the ``number`` best classes."""
        return [(self.name(int(i)), float(self.scores[i])) for i in self.labels[:number]]

    @property
    def labels(self) -> np.ndarray:
        """(K,) int64, the best class first."""
        return np.argsort(-self.scores, kind="stable")

    def draw(self, palette: Sequence | None = None):
        return visualize.classification(self.image, self.top())

    def to_coco(self, image_id: int = 0, category_ids: Sequence[int] | None = None) -> list[dict]:
        return [
            dict(
                image_id=image_id, category_id=self._category(int(label), category_ids), score=float(self.scores[label])
            )
            for label in self.labels[:5]
        ]

    def _found(self) -> dict:
        return dict(top=[dict(name=name, score=score) for name, score in self.top()])


def check_display() -> None:
    """Raise ConfigError where windows cannot be opened."""
    if sys.platform.startswith("linux") and not (os.getenv("DISPLAY") or os.getenv("WAYLAND_DISPLAY")):
        raise ConfigError("there is no display to show images on: save them")


def save_image(drawing, path: str | Path) -> None:
    """Write a PIL image whole or not at all. Raises DataError where that cannot be."""
    from PIL import Image

    path = Path(path)
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:  # some can only be read
        raise DataError(f"{path} cannot be written: let its name end in .png or .jpg")
    try:
        with replacing(path) as part:
            drawing.save(part, quality=80)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}): give another folder") from None


def _run_lengths(mask: np.ndarray) -> dict:
    """COCO's run-length encoding of (h, w) bool."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(size=list(map(int, encoded["size"])), counts=encoded["counts"].decode())
