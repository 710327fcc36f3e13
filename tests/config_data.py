"""Small data sets in the place of those that configs name."""

import inspect
import json

import cv2
import numpy as np
from mmseg.registry import DATASETS
from PIL import Image


def small_eomt_encoder(**options):
    """Return the config of an EoMT encoder of four narrow blocks, queries in the last two."""
    sizes = dict(embed_dim=24, depth=4, num_heads=2, query_blocks=2, model_args=dict(init_values=1.0))
    return dict(type="EoMTEncoder", model_name="vit_small_patch14_reg4_dinov2", **sizes, **options)


def small_coco(folder, classes):
    """Write one image with one square of the last class, as COCO json."""
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    image[:90] = 127  # flat, for methods that look for such parts
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


def small_panoptic(folder, metainfo):
    """Write one image with one object of the first class and stuff of the last around it, in COCO's panoptic format.

    Returns:
        The arguments that say where it is, of a panoptic data set.
    """
    (folder / "segments").mkdir(exist_ok=True)
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / "a.jpg")
    ids = np.full((120, 160, 3), (2, 0, 0), np.uint8)  # id = R + 256 G + 65536 B
    ids[20:90, 30:90] = (1, 0, 0)
    Image.fromarray(ids).save(folder / "segments" / "a.png")
    names = metainfo["classes"]
    segments = [
        dict(id=1, category_id=1, bbox=[30, 20, 60, 70], area=4200, iscrowd=0),
        dict(id=2, category_id=len(names), bbox=[0, 0, 160, 120], area=15000, iscrowd=0),
    ]
    things = {*metainfo["thing_classes"]}
    record = dict(
        images=[dict(id=1, file_name="a.jpg", height=120, width=160)],
        categories=[dict(id=i + 1, name=name, isthing=int(name in things)) for i, name in enumerate(names)],
        annotations=[dict(image_id=1, file_name="a.png", segments_info=segments)],
    )
    (folder / "a.json").write_text(json.dumps(record))
    prefix = dict(img=str(folder), seg=str(folder / "segments"))
    return dict(data_root=None, ann_file=str(folder / "a.json"), data_prefix=prefix, filter_cfg=None)


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
            image[:90] = 127  # flat, for methods that look for such parts
            Image.fromarray(image).save(images / f"{i}{spec.get('img_suffix', suffixes['img_suffix'].default)}")
            values = random.choice(known if labels is None else labels, size).astype(np.uint8)
            Image.fromarray(values).save(maps / f"{i}{suffixes['seg_map_suffix'].default}")
        if "ann_file" in spec:
            listed = folder / spec.ann_file
            listed.parent.mkdir(parents=True, exist_ok=True)
            listed.write_text("0\n1\n")
    cfg.test_dataloader.dataset = cfg.val_dataloader.dataset


def narrow_mask2former(head, matching, widths):
    """Give a config's Mask2Former head an eighth of its channels, few points and the backbone's ``widths``."""

    def narrow(part):
        for key, value in part.items():
            if isinstance(value, dict):
                narrow(value)
            elif key in ("embed_dims", "num_feats") or (isinstance(value, int) and key.endswith("_channels")):
                part[key] = value // 8

    narrow(head)
    head.in_channels, matching.num_points = widths, 400
