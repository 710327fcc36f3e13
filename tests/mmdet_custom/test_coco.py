"""mmdet's evaluation of annotation files that pycocotools reads wrongly or not at all."""

import json

import pytest

pytest.importorskip("mmdet")
import torch
from mmdet.evaluation import CocoMetric
from pycocotools import mask

import mmdet_custom  # noqa: F401  sets the reader

BOXES = ((2, 3, 10, 10), (15, 5, 8, 12))


def truth(ids, image=1, category=1):
    def polygon(x, y, w, h):
        return [[x, y, x + w, y, x + w, y + h, x, y + h]]

    annotations = [
        dict(
            id=i,
            image_id=image,
            category_id=category,
            bbox=list(box),
            area=box[2] * box[3],
            iscrowd=0,
            segmentation=polygon(*box),
        )
        for i, box in zip(ids, BOXES, strict=True)
    ]
    return dict(
        images=[dict(id=image, file_name="a.png", width=30, height=20)],
        annotations=annotations,
        categories=[dict(id=category, name="cat")],
    )


def scores(path, image=1):
    """Return box and mask AP of a detector that is right."""
    metric = CocoMetric(str(path), metric=["bbox", "segm"])
    metric.dataset_meta = dict(classes=("cat",))
    masks = [mask.frPyObjects([a["segmentation"][0]], 20, 30)[0] for a in truth((1, 2))["annotations"]]
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in BOXES], dtype=torch.float32)
    found = dict(bboxes=boxes, scores=torch.tensor([0.9, 0.8]), labels=torch.zeros(2, dtype=torch.int64), masks=masks)
    metric.process({}, [dict(img_id=image, ori_shape=(20, 30), pred_instances=found)])
    result = metric.evaluate(1)
    return result["coco/bbox_mAP"], result["coco/segm_mAP"]


@pytest.mark.parametrize("ids", [(1, 2), (0, 1), (1, 0), (0.0, 5), ("a", "b"), (-1, 0)])
def test_the_score_does_not_depend_on_the_annotations_ids(tmp_path, ids):
    (tmp_path / "a.json").write_text(json.dumps(truth(ids)))
    assert scores(tmp_path / "a.json") == (1, 1)


@pytest.mark.parametrize("image, category", [(0, 0), ("a", 1), ("0", "0"), (2**53, 7)])
def test_nor_on_the_other_ids(tmp_path, image, category):
    (tmp_path / "a.json").write_text(json.dumps(truth((0, 1), image, category)))
    assert scores(tmp_path / "a.json", image) == (1, 1)


@pytest.mark.parametrize("name", ["area", "iscrowd"])
def test_a_missing_field_is_completed(tmp_path, name):
    content = truth((0, 1))
    del content["annotations"][0][name]
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert scores(tmp_path / "a.json") == (1, 1)


def test_a_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(truth((0, 1))), encoding="utf-8-sig")
    assert scores(tmp_path / "a.json") == (1, 1)
