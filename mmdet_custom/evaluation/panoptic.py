"""Panoptic quality, by the rules of COCO's evaluation.

"Panoptic Segmentation", Kirillov et al., CVPR 2019.

Shapes: K classes, h x w pixels, P predicted segments, G labelled segments.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from mmcv_custom.errors import DataError

from ..panoptic_maps import read_ids

VOID = 0  # id of labelled pixels that belong to no segment


class Segment(NamedTuple):
    """A labelled segment: its id in the map, its class, and whether it is a crowd."""

    id: int
    label: int
    crowd: bool = False


def matched(predicted: np.ndarray, labels: np.ndarray, segments: Sequence[Segment], classes: int) -> np.ndarray:
    """Match the segments of an image and return (K, 4): sum of IoU, true positives, false positives, misses.

    A predicted and a labelled segment of one class match where their IoU is above a half; unlabelled pixels do not
    count in it. A crowd matches nothing and is no miss; a prediction more than half of whose pixels are unlabelled, or
    in crowds of its class, is no false positive.

    Args:
        predicted: (h, w) segments, ``class + number * 1000`` each; classes from K on for none.
        labels: (h, w) ids of ``segments``, or ``VOID``.
        segments: of the labels.
        classes: K.

    Raises:
        DataError: the sizes differ, or a label is in no segment.
    """
    if predicted.shape != labels.shape:
        raise DataError(f"a prediction of {predicted.shape} pixels does not fit labels of {labels.shape}")
    found, areas, overlap = _overlaps(predicted, labels)
    known = {segment.id: segment for segment in segments}
    unknown = [one for one in areas if one != VOID and one not in known]
    if unknown:
        raise DataError(f"id {unknown[0]} is in the map of segments and not in the annotation file")
    out = np.zeros((classes, 4))
    taken: set[int] = set()
    hit: set[int] = set()
    for (p, g), common in overlap.items():
        segment, label = known.get(g), p % INSTANCE_OFFSET
        if segment is None or segment.crowd or segment.label != label or label >= classes:
            continue
        iou = common / (found[p] + areas[g] - common - overlap.get((p, VOID), 0))
        if iou > 0.5:
            out[label, :2] += iou, 1
            taken.add(p)
            hit.add(g)
    for p, area in found.items():
        label = p % INSTANCE_OFFSET
        if p in taken or label >= classes:
            continue
        excused = overlap.get((p, VOID), 0)
        excused += sum(overlap.get((p, s.id), 0) for s in segments if s.crowd and s.label == label)
        out[label, 2] += excused / area <= 0.5
    for segment in segments:
        if segment.id not in hit and not segment.crowd:
            out[segment.label, 3] += 1
    return out


def _overlaps(predicted: np.ndarray, labels: np.ndarray) -> tuple[dict, dict, dict]:
    """Return the area of each predicted id, of each label, and of each pair of them that share pixels."""
    pairs, common = np.unique(np.stack([predicted.ravel(), labels.ravel()]), axis=1, return_counts=True)
    found: dict[int, int] = {}
    areas: dict[int, int] = {}
    overlap = {}
    for p, g, n in zip(*pairs.tolist(), common.tolist(), strict=True):
        overlap[p, g] = n
        found[p], areas[g] = found.get(p, 0) + n, areas.get(g, 0) + n
    return found, areas, overlap


def quality(counts: np.ndarray) -> dict[str, float]:
    """Return PQ, SQ and RQ in percent, averages over the classes of ``counts`` (K, 4) that occur."""
    iou, hits, wrong, missed = counts.T
    occurs = hits + wrong + missed > 0
    weight = hits + 0.5 * (wrong + missed)
    terms = dict(PQ=(iou, weight), SQ=(iou, hits), RQ=(hits, weight))
    out = {}
    for name, (above, below) in terms.items():
        value = np.divide(above, below, out=np.zeros_like(above), where=below > 0)[occurs]
        out[name] = 100 * float(value.mean()) if len(value) else 0.0
    return out


@METRICS.register_module()
class PanopticQuality(BaseMetric):
    """PQ, SQ and RQ of all classes, of things and of stuff, without files of results and without ``panopticapi``.

    Args:
        ann_file: labels in COCO's panoptic format.
        seg_prefix: folder of their maps.
        classwise: also the PQ of each class.
        base: ``collect_device`` and ``prefix`` of ``BaseMetric``.

    Raises:
        DataError: the file or a map is missing, or does not fit the data set's classes or the predictions.
    """

    default_prefix = "coco_panoptic"

    def __init__(self, ann_file: str, seg_prefix: str, classwise: bool = False, **base) -> None:
        super().__init__(**base)
        self.ann_file, self.seg_prefix, self.classwise = Path(ann_file), Path(seg_prefix), classwise
        self._images: dict[int, dict] | None = None

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Add a batch; each sample has ``img_id`` and ``pred_panoptic_seg`` in the image's original size."""
        images, classes = self._load(), self.dataset_meta["classes"]
        for sample in data_samples:
            one = images.get(sample["img_id"])
            if one is None:
                raise DataError(f"image {sample['img_id']} has no segments in {self.ann_file}")
            segments = [
                Segment(s["id"], self._labels[s["category_id"]], bool(s.get("iscrowd"))) for s in one["segments"]
            ]
            predicted = sample["pred_panoptic_seg"]["sem_seg"][0].cpu().numpy()
            labels = read_ids(self.seg_prefix / one["file"])
            self.results.append(matched(predicted, labels, segments, len(classes)))

    def _load(self) -> dict[int, dict]:
        """Return the labels by image; the file is read once."""
        if self._images is not None:
            return self._images
        try:
            record = json.loads(self.ann_file.read_text())
            self._images = {
                image["image_id"]: dict(file=image["file_name"], segments=image["segments_info"])
                for image in record["annotations"]
            }
            categories = {category["name"]: category["id"] for category in record["categories"]}
            self._labels = {categories[name]: label for label, name in enumerate(self.dataset_meta["classes"])}
            used = {s["category_id"] for image in self._images.values() for s in image["segments"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.ann_file} holds no panoptic labels of the data set's classes ({type(error).__name__}: {error})"
            ) from None
        if not used <= self._labels.keys():
            raise DataError(
                f"{self.ann_file} has segments of category {min(used - self._labels.keys())}, which is none of the "
                "data set's classes"
            )
        return self._images

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Return the quality over all images."""
        counts, classes = sum(results), list(self.dataset_meta["classes"])
        things = np.isin(classes, self.dataset_meta.get("thing_classes", ()))
        out = quality(counts)
        for suffix, part in (("th", things), ("st", ~things)):
            out |= {f"{name}_{suffix}": value for name, value in quality(counts[part]).items()}
        if self.classwise:
            out |= {f"PQ_{name}": quality(counts[i : i + 1])["PQ"] for i, name in enumerate(classes)}
        return out
