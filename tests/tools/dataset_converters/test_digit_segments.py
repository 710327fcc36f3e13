"""digit_segments.py: panoptic labels and objects of one class, read by the data sets of the configs that use them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, METRICS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as mask_utils
from scripts import load_script, run_script

import mmdet_custom  # noqa: F401 - registers
from mmdet_custom.panoptic_maps import read_ids

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "tools/dataset_converters/digit_segments.py"
SIZE = 64


def rectangle(top, left, height, width):
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[top : top + height, left : left + width] = 1
    rle = mask_utils.encode(np.asfortranarray(mask))
    return dict(size=[SIZE, SIZE], counts=rle["counts"].decode())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the folder that the converter makes of two images a split with two digits each."""
    from PIL import Image

    source, out = tmp_path_factory.mktemp("scenes"), tmp_path_factory.mktemp("made") / "segments"
    for split in ("train", "val"):
        for folder in (split, "annotations"):
            (source / folder).mkdir(exist_ok=True)
        images, annotations = [], []
        for i in range(2):
            Image.fromarray(np.full((SIZE, SIZE, 3), 90 * i, np.uint8)).save(source / split / f"{i}.jpg")
            images.append(dict(id=i + 1, file_name=f"{i}.jpg", width=SIZE, height=SIZE))
            for k, box in enumerate(((4, 6, 20, 10), (30, 30, 9, 25))):
                one = dict(id=len(annotations) + 1, image_id=i + 1, category_id=k + 1, iscrowd=0)
                one.update(bbox=[box[1], box[0], box[3], box[2]], area=box[2] * box[3], segmentation=rectangle(*box))
                annotations.append(one)
        names = [dict(id=k + 1, name=str(k)) for k in range(10)]
        content = dict(images=images, annotations=annotations, categories=names)
        (source / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    load_script(SCRIPT).make(source, out)
    load_script(SCRIPT).make(source, out)  # which is there
    (out / "notes.txt").touch()
    with pytest.raises(ValueError, match="already holds other files"):
        load_script(SCRIPT).make(source, out)
    (out / "notes.txt").unlink()
    return out


def test_segments(made):
    record = json.loads((made / "annotations/panoptic_val.json").read_text())
    assert [(c["name"], c["isthing"]) for c in record["categories"]] == [("digit", 1), ("background", 0)]
    one = record["annotations"][0]
    ids = read_ids(made / "annotations/panoptic_val" / one["file_name"])
    assert {s["id"]: (s["category_id"], s["area"]) for s in one["segments_info"]} == {
        1: (2, SIZE**2 - 200 - 225),
        2: (1, 200),
        3: (1, 225),
    }
    assert (ids == 2).sum() == 200 and one["segments_info"][1]["bbox"] == [6, 4, 10, 20]
    assert (made / "train/1.jpg").is_file()


def dataset(made, kind, split):
    init_default_scope("mmdet")
    cfg = Config.fromfile(ROOT / f"configs/_base_/datasets/digit_{kind}.py")
    return cfg, DATASETS.build(dict(cfg[f"{split}_dataloader"].dataset, data_root=str(made) + "/"))


@pytest.mark.parametrize("kind", ["objects", "panoptic"])
def test_training_samples(made, kind):
    torch.manual_seed(0)
    data = dataset(made, kind, "train")[1][0]["data_samples"]
    assert {*data.gt_instances.labels.tolist()} == {0} and 1 <= len(data.gt_instances) <= 2
    if kind == "panoptic":
        assert {*data.gt_sem_seg.sem_seg.unique().tolist()} == {0, 1}


def test_labels_as_predictions_are_perfect(made):
    cfg, data = dataset(made, "panoptic", "val")
    where = {
        name: str(made / cfg.val_evaluator[name].split("digit_segments/")[1]) for name in ("ann_file", "seg_prefix")
    }
    metric = METRICS.build(dict(cfg.val_evaluator, **where))
    metric.dataset_meta = data.metainfo
    for sample in data:
        packed = sample["data_samples"]
        ids = torch.from_numpy(read_ids(Path(where["seg_prefix"]) / f"{Path(packed.img_path).stem}.png"))
        predicted = torch.where(ids == 1, 1, 1000 * ids)  # stuff is class 1, objects are class 0 with a number
        metric.process(None, [dict(img_id=packed.img_id, pred_panoptic_seg=dict(sem_seg=predicted[None]))])
    found = metric.evaluate(2)
    assert all(found[f"coco_panoptic/{name}"] == 100 for name in ("PQ", "PQ_th", "PQ_st", "SQ", "RQ"))


def test_what_is_refused(made, tmp_path):
    failed = run_script(SCRIPT, str(tmp_path), str(tmp_path / "out"))
    assert failed.returncode == 1 and "one inside the other" in failed.stderr
    with pytest.raises(ValueError, match="lacks 2 of 2 annotation files"):
        load_script(SCRIPT).make(tmp_path, made.parent / "other")
