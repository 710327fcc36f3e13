"""Panoptic results: segments of objects and stuff from mmdet's data samples, drawn, in words and in files."""

import json

import numpy as np
import torch
from mmdet.datasets import CocoPanopticDataset
from mmdet.structures import INSTANCE_OFFSET, DetDataSample
from mmengine.structures import InstanceData, PixelData
from pycocotools import mask as coco

from mmcv_custom.data.synthetic import scene
from mmcv_custom.inference import Panoptic
from mmcv_custom.inference.panoptic import OBJECTS
from mmcv_custom.inference.results import result_of

CLASSES, VOID = ("cat", "dog", "grass"), 3
CAT, DOG = 0 + INSTANCE_OFFSET, 1 + 2 * INSTANCE_OFFSET
IMAGE = scene(48, 64)


def found(scores=True, classes=CLASSES, **options):
    numbers = torch.full((1, 48, 64), 2)
    numbers[:, :20, :30], numbers[:, 10:40, 40:60], numbers[:, 44:] = CAT, DOG, VOID
    segments = PixelData(sem_seg=numbers)
    if scores:
        segments.set_metainfo(dict(scores={CAT: 0.5, DOG: 0.75, 2: 0.25}))
    sample = DetDataSample(pred_panoptic_seg=segments)
    sample.pred_instances = InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0).long())
    return result_of(sample, image=IMAGE, path="a.jpg", classes=classes, tokens=None, **options)


def test_segments_are_sorted_by_score_and_what_belongs_to_none_is_left_out():
    result = found()
    assert isinstance(result, Panoptic) and OBJECTS == INSTANCE_OFFSET
    assert result.names == ["dog", "cat", "grass"] and result.things.tolist() == [True, True, False]
    assert result.boxes.tolist() == [[40, 10, 60, 40], [0, 0, 30, 20], [0, 0, 64, 44]]
    assert not result.masks[:, 44:].any() and (result.masks.sum(0)[:44] == 1).all()
    assert result.summary() == "2 found: dog 0.75, cat 0.50"  # the grass is below 0.3
    assert result.above(0.2).summary() == "3 found: dog 0.75, cat 0.50, grass 0.25"


def test_drawings_tint_segments_only():
    plain = np.asarray(found(score_thr=1).draw())
    drawn = np.asarray(found(score_thr=0).draw())
    assert plain.shape == drawn.shape == (480, 640, 3)  # enlarged
    changed = (plain != drawn).any(-1)
    assert changed[:430].mean() > 0.95 and not changed[450:].any()
    assert (drawn[95:105, 395:405] == 255).all(-1).any()  # a line between dog and grass
    red = np.asarray(found(score_thr=0).draw([(255, 0, 0)] * 3))
    assert (red[:430, :, 0] >= plain[:430, :, 0]).mean() > 0.8


def test_files_hold_all_segments():
    result = found()
    entries = result.to_coco(7, [20, 10, 30])
    assert [entry["category_id"] for entry in entries] == [10, 20, 30] and entries[0]["image_id"] == 7
    assert entries[1]["bbox"] == [0, 0, 30, 20] and coco.area(entries[1]["segmentation"]) == 600
    segments = json.loads(json.dumps(result.to_dict(), allow_nan=False))["segments"]
    assert segments[0] == dict(name="dog", label=1, thing=True, score=0.75, box=[40, 10, 60, 40], area=600)
    assert len(segments) == 3 and not segments[2]["thing"]


def test_segments_without_scores():
    result = found(scores=False)
    assert result.summary() == "3 found: grass, cat, dog" and len(result.masks) == 3
    dumped = json.dumps([result.to_dict(), result.to_coco()], allow_nan=False)
    assert '"score": null' in dumped
    assert np.any(np.asarray(result.draw()) != np.asarray(found(score_thr=1).draw()))


def test_coco_numbers_its_own_classes():
    classes = CocoPanopticDataset.METAINFO["classes"]
    ids = [found(classes=classes)._category(classes.index(name), None) for name in ("person", "toothbrush", "banner")]
    assert ids == [1, 90, 92] and found(classes=classes)._category(132, None) == 200
