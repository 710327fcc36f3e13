"""What a model found in one image: the results of detectors, segmentors and classifiers.

Shapes: h x w pixels of the image as it was given, n objects, K classes.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mmengine.structures import BaseDataElement

from token_pruning import PassTrace

from ..errors import ConfigError, DataError
from ..files import replacing
from ..tasks import task_of_sample
from . import visualize
from .token_view import TokenView

if TYPE_CHECKING:
    from PIL.Image import Image

# COCO numbers its 80 classes of objects up to 90 with gaps, and the 53 of stuff in its panoptic labels up to 200.
COCO_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_STUFF = (
    *(92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147, 148, 149, 151, 154),
    *(155, 156, 159, 161, 166, 168, 171, 175, 176, 177, 178, 180, 181, *range(184, 201)),
)
COCO_IDS = (*(i for i in range(1, 91) if i not in COCO_GAPS), *COCO_STUFF)
SCORE_THR = 0.3  # as in the demos and inferencers of mmdet


@dataclass(frozen=True, repr=False, eq=False)
class Result(ABC):
    """What a model found in one image; printed, it is one line.

    Attributes:
        image: (h, w, 3) uint8 RGB, as it was given.
        path: file of the image; None for an array.
        classes: K names.
        tokens: which tokens the forward computed, as numbers and images; None if the backbone records nothing.
        sample: data sample of the toolbox (DetDataSample, SegDataSample, DataSample).
        score_thr: least score of the objects that are drawn and put into words; arrays and files hold all of them.
    """

    image: np.ndarray
    path: str | None
    classes: tuple[str, ...]
    tokens: TokenView | None
    sample: BaseDataElement | None
    score_thr: float = field(default=SCORE_THR, kw_only=True)

    task = ""

    def __repr__(self) -> str:
        h, w = self.image.shape[:2]
        computed = "" if self.tokens is None else f"; {self.tokens.mean_keep_ratio():.1%} of the tokens computed"
        return f"<{type(self).__name__} of {self.path or 'an array'}, {h} x {w} pixels: {self.summary()}{computed}>"

    @classmethod
    @abstractmethod
    def from_sample(cls, sample: BaseDataElement, **common: object) -> Result:
        """Build a result from the prediction in ``sample`` (on the CPU); ``common``: the fields of ``Result``."""

    @property
    def trace(self) -> PassTrace:
        """The trace of the forward; with a sliding window, of its first position (``tokens.windows`` has all).

        Raises:
            ConfigError: the backbone recorded nothing.
        """
        if self.tokens is None:
            raise ConfigError("there is no trace: the backbone is not one of this project, or it is compiled")
        return self.tokens.windows[0].trace

    def name(self, label: int) -> str:
        """Return the name of a class."""
        return self.classes[label] if label < len(self.classes) else str(label)

    def above(self, score: float) -> Result:
        """Return the result without the objects below ``score``, with the rest drawn and in words.

        Only detections have a score per object; other results stay as they are.
        """
        return self

    @abstractmethod
    def draw(self, palette: Sequence | None = None, legend: bool = True) -> Image:
        """Draw what was found on the image and return a PIL image.

        Args:
            palette: K RGB colours (default: colours that colour-blind readers can tell apart).
            legend: where a task has a legend below the image, draw it; its height depends on what was found.
        """

    @abstractmethod
    def summary(self, number: int = 8) -> str:
        """Return what was found in words, at most ``number`` entries."""

    def show(self) -> None:
        """Open the drawn image in the desktop's viewer; raise ConfigError where there is no display."""
        check_display()
        self.draw().show()

    def save(self, path: str | Path) -> None:
        """Write the drawn image in the format of the path's suffix; raise DataError where that is not possible."""
        save_image(self.draw(), path)

    @abstractmethod
    def to_coco(self, image_id: int = 1, category_ids: Sequence[int] | None = None) -> list[dict]:
        """Return entries of a COCO result file.

        Args:
            image_id: number of the image in the annotation file.
            category_ids: K category numbers of the annotation file (default: 1, 2, ..., and COCO's own for its 80
                classes of objects, or 133 with stuff).
        """

    def to_dict(self) -> dict:
        """Return the numbers for JSON, those of ``tokens`` among them."""
        return dict(
            image=self.path,
            size=list(self.image.shape[:2]),
            task=self.task,
            **self._prediction(),
            tokens=self.tokens and self.tokens.to_dict(),
        )

    @abstractmethod
    def _prediction(self) -> dict:
        """Return the part of ``to_dict`` that depends on the task."""

    def _category(self, label: int, category_ids: Sequence[int] | None) -> int:
        if category_ids is not None:
            return int(category_ids[label])
        if len(self.classes) in (80, len(COCO_IDS)) and (self.classes[0], self.classes[79]) == ("person", "toothbrush"):
            return COCO_IDS[label]
        return label + 1


@dataclass(frozen=True, repr=False, eq=False)
class Detection(Result):
    """Objects with boxes and masks: all that the model returns, of any score.

    Attributes:
        boxes: (n, 4) float32, x1, y1, x2, y2 in pixels; by descending score.
        scores: (n,) float32.
        labels: (n,) int64.
        masks: (n, h, w) bool; None for a detector without masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None

    task = "detection"

    @classmethod
    def from_sample(cls, sample: BaseDataElement, **common: object) -> Detection:
        found = sample.pred_instances
        found = found[found.scores.argsort(descending=True, stable=True)]  # those of mask transformers are in no order
        masks = found.masks.numpy().astype(bool) if "masks" in found else None
        arrays = dict(boxes=found.bboxes.numpy(), scores=found.scores.numpy(), labels=found.labels.numpy())
        return cls(**common, sample=sample, **arrays, masks=masks)

    @property
    def names(self) -> list[str]:
        """Class names of the n objects."""
        return [self.name(label) for label in self.labels.tolist()]

    def words(self) -> list[str]:
        """Return name and score of the n objects."""
        return [f"{name} {score:.2f}" for name, score in zip(self.names, self.scores, strict=True)]

    def above(self, score: float) -> Detection:
        keep = self.scores >= score
        masks = None if self.masks is None else self.masks[keep]
        arrays = dict(boxes=self.boxes[keep], scores=self.scores[keep], labels=self.labels[keep], masks=masks)
        return replace(self, **arrays, score_thr=score)

    def draw(self, palette: Sequence | None = None, legend: bool = True) -> Image:
        seen = self.above(self.score_thr)
        return visualize.detections(seen.image, seen.boxes, seen.scores, seen.labels, seen.words(), seen.masks, palette)

    def summary(self, number: int = 8) -> str:
        found = self.above(self.score_thr).words()
        more = f" and {len(found) - number} more" if len(found) > number else ""
        if not found:
            return f"nothing above the score threshold of {self.score_thr:g}"
        return f"{len(found)} found: {', '.join(found[:number])}{more}"

    def to_coco(self, image_id: int = 1, category_ids: Sequence[int] | None = None) -> list[dict]:
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

    def _prediction(self) -> dict:
        return dict(
            objects=[
                dict(name=name, label=int(label), score=float(score), box=box)
                for name, label, score, box in zip(
                    self.names, self.labels, self.scores, self.boxes.tolist(), strict=True
                )
            ]
        )


@dataclass(frozen=True, repr=False, eq=False)
class Segmentation(Result):
    """A label map.

    Attributes:
        map: (h, w) int64, the class of every pixel.
    """

    map: np.ndarray

    task = "segmentation"

    @classmethod
    def from_sample(cls, sample: BaseDataElement, **common: object) -> Segmentation:
        return cls(**common, sample=sample, map=sample.pred_sem_seg.data[0].numpy())

    def shares(self) -> dict[str, float]:
        """Return name -> fraction of the pixels for the classes in the map, the largest first."""
        labels, counts = np.unique(self.map, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {self.name(int(labels[i])): float(counts[i] / self.map.size) for i in order}

    def draw(self, palette: Sequence | None = None, legend: bool = True) -> Image:
        return visualize.segmentation(self.image, self.map, self.name, palette, legend)

    def summary(self, number: int = 8) -> str:
        return _percentages(list(self.shares().items())[:number])

    def to_coco(self, image_id: int = 1, category_ids: Sequence[int] | None = None) -> list[dict]:
        return [
            dict(
                image_id=image_id,
                category_id=self._category(int(label), category_ids),
                segmentation=_run_lengths(self.map == label),
            )
            for label in np.unique(self.map)
        ]

    def _prediction(self) -> dict:
        return dict(shares=self.shares())


@dataclass(frozen=True, repr=False, eq=False)
class Classification(Result):
    """Scores of the classes.

    Attributes:
        scores: (K,) float32 that sum to 1.
    """

    scores: np.ndarray

    task = "classification"

    @classmethod
    def from_sample(cls, sample: BaseDataElement, **common: object) -> Classification:
        return cls(**common, sample=sample, scores=sample.pred_score.numpy())

    def top(self, number: int = 5) -> list[tuple[str, float]]:
        """Return names and scores of the ``number`` best classes."""
        return [(self.name(int(i)), float(self.scores[i])) for i in self.labels[:number]]

    @property
    def labels(self) -> np.ndarray:
        """(K,) int64, by descending score."""
        return np.argsort(-self.scores, kind="stable")

    def draw(self, palette: Sequence | None = None, legend: bool = True) -> Image:
        return visualize.classification(self.image, self.top())

    def summary(self, number: int = 8) -> str:
        return _percentages(self.top(min(number, 5)))

    def to_coco(self, image_id: int = 1, category_ids: Sequence[int] | None = None) -> list[dict]:
        return [
            dict(
                image_id=image_id, category_id=self._category(int(label), category_ids), score=float(self.scores[label])
            )
            for label in self.labels[:5]
        ]

    def _prediction(self) -> dict:
        return dict(top=[dict(name=name, score=score) for name, score in self.top()])


def result_of(sample: BaseDataElement, **common: object) -> Result:
    """Build the result of an image; its class depends on the prediction that ``sample`` (on the CPU) holds.

    Args:
        common: the other fields of ``Result``.
    """
    return task_of_sample(sample).result_class.from_sample(sample, **common)


def check_display() -> None:
    """Raise ConfigError where windows cannot be opened."""
    if sys.platform.startswith("linux") and not (os.getenv("DISPLAY") or os.getenv("WAYLAND_DISPLAY")):
        raise ConfigError("there is no display to show images on: leave that out, and look at the files")


def save_image(image: Image, path: str | Path) -> None:
    """Write a PIL image whole or not at all; raise DataError where that is not possible."""
    from PIL import Image

    path = Path(path)
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:  # some can only be read
        raise DataError(f"{path} cannot be written: choose a name that ends in .png or .jpg")
    try:
        with replacing(path) as part:
            image.save(part, quality=80)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}): choose another folder") from None


def _percentages(entries: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in entries)


def _run_lengths(mask: np.ndarray) -> dict:
    """Return COCO's run-length encoding of (h, w) bool."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(size=list(map(int, encoded["size"])), counts=encoded["counts"].decode())
