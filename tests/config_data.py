"""Small data sets in the place of those that configs name."""

import inspect
import json

import cv2
import numpy as np
from mmseg.registry import DATASETS
from PIL import Image


def small_coco(folder, classes):
    """Write one image with one square of the last class, as COCO json."""
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "a.png"), image)
    box = [30, 20, 60, 70]
    polygon = [30, 20, 90, 20, 90, 90, 30, 90]
    record = dict(
        images=[dict(id=1, file_name="a.png", height=120, width=160)],
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(classes)],
        annotations=[
            dict(id=1, image_id=1, category_id=len(classes), bbox=box, area=4200, iscrowd=0, segmentation=[polygon])
        ],
    )
    (folder / "a.json").write_text(json.dumps(record))
    return str(folder / "a.json")


def counts_from_one(spec):
    return spec.type not in ("BaseSegDataset", "CityscapesDataset")


def write_images(cfg, folder, labels=None, size=(120, 160)):
    """Write two images for each split where the config looks for them.

    Their label maps have this ``size`` and hold every label that the config knows, or these ``labels``.
    """
    classes = cfg.model.decode_head.num_classes
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        spec = cfg[f"{split}_dataloader"].dataset
        spec.data_root = str(folder)
        ignored = 0 if counts_from_one(spec) else 255
        known = [*range(counts_from_one(spec), classes + counts_from_one(spec)), ignored]
        suffixes = inspect.signature(DATASETS.get(spec.type)).parameters
        images, maps = (folder / spec.data_prefix[kind] for kind in ("img_path", "seg_map_path"))
        images.mkdir(parents=True, exist_ok=True)
        maps.mkdir(parents=True, exist_ok=True)
        for i in range(2):
            image = random.integers(0, 255, (120, 160, 3), dtype=np.uint8)
            Image.fromarray(image).save(images / f"{i}{spec.get('img_suffix', suffixes['img_suffix'].default)}")
            values = random.choice(known if labels is None else labels, size).astype(np.uint8)
            Image.fromarray(values).save(maps / f"{i}{suffixes['seg_map_suffix'].default}")
        if "ann_file" in spec:
            listed = folder / spec.ann_file
            listed.parent.mkdir(parents=True, exist_ok=True)
            listed.write_text("0\n1\n")
    cfg.test_dataloader.dataset = cfg.val_dataloader.dataset
