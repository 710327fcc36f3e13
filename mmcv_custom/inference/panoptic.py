"""What a panoptic model found in one image.

Shapes: h x w pixels of the image as it was given, n segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from mmengine.structures import BaseDataElement

from . import visualize
from .results import Detection

if TYPE_CHECKING:
    from PIL.Image import Image

OBJECTS = 1000  # mmdet numbers a segment by its class, and counts objects in multiples of this


@dataclass(frozen=True, repr=False, eq=False)
class Panoptic(Detection):
    """Segments that share no pixel, of objects and of stuff; boxes, scores, labels and masks are theirs.

    A score is NaN where the model gives none. The objects that it returns besides are in ``sample.pred_instances``.

    Attributes:
        things: (n,) bool, whether a segment is an object.
    """

    things: np.ndarray

    task = "panoptic segmentation"

    @classmethod
    def from_sample(cls, sample: BaseDataElement, **common: object) -> Panoptic:
        numbers = sample.pred_panoptic_seg.sem_seg[0].numpy()
        known = sample.pred_panoptic_seg.get("scores")
        found = [i for i in np.unique(numbers).tolist() if _is_segment(i, known, len(common["classes"]))]
        scores = np.array([np.nan if known is None else known[i] for i in found], np.float32)
        order = np.argsort(-scores, kind="stable")
        segments = np.array(found, np.int64)[order]
        masks = numbers == segments[:, None, None]
        return cls(
            **common,
            sample=sample,
            boxes=np.array([_box(mask) for mask in masks], np.float32).reshape(-1, 4),
            scores=scores[order],
            labels=segments % OBJECTS,
            masks=masks,
            things=segments >= OBJECTS,
        )

    def above(self, score: float) -> Panoptic:
        keep = ~(self.scores < score)  # those without a score stay
        arrays = {name: getattr(self, name)[keep] for name in ("boxes", "scores", "labels", "masks", "things")}
        return replace(self, **arrays, score_thr=score)

    def draw(self, palette: Sequence | None = None, legend: bool = True) -> Image:
        seen = self.above(self.score_thr)
        return visualize.segments(seen.image, seen.masks, seen.labels, seen.words(), palette)

    def words(self) -> list[str]:
        given = zip(self.names, _given(self.scores), strict=True)
        return [name if score is None else f"{name} {score:.2f}" for name, score in given]

    def to_coco(self, image_id: int = 1, category_ids: Sequence[int] | None = None) -> list[dict]:
        entries = super().to_coco(image_id, category_ids)
        return [dict(entry, score=score) for entry, score in zip(entries, _given(self.scores), strict=True)]

    def _prediction(self) -> dict:
        found = zip(
            self.names,
            self.labels.tolist(),
            self.things.tolist(),
            _given(self.scores),
            self.boxes.tolist(),
            self.masks.sum((1, 2)).tolist(),
            strict=True,
        )
        keys = ("name", "label", "thing", "score", "box", "area")
        return dict(segments=[dict(zip(keys, values, strict=True)) for values in found])


def _given(scores: np.ndarray) -> list[float | None]:
    """Return scores as numbers, None where there is none: JSON has no NaN."""
    return [None if np.isnan(score) else score for score in scores.tolist()]


def _is_segment(number: int, scores: dict | None, classes: int) -> bool:
    """Return whether pixels with a number belong to a segment: the class after the last one stands for none."""
    return number in scores if scores is not None else not classes or number % OBJECTS < classes


def _box(mask: np.ndarray) -> list[int]:
    """Return x1, y1, x2, y2 of a mask that is not empty."""
    (y1, y2), (x1, x2) = (np.flatnonzero(mask.any(axis))[[0, -1]] for axis in (1, 0))
    return [x1, y1, x2 + 1, y2 + 1]
