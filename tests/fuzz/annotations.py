"""COCO files as all tools write them, sound and broken, through the checks, the data set and the evaluator."""

import copy
import functools
import json

import numpy as np
import torch
from fuzz.contract import Broken, Case
from PIL import Image
from pycocotools import mask as rle_codec
from scripts import load_script

from mmcv_custom.data.checks.coco import check_coco, check_coco_images
from mmcv_custom.data.coco_file import complete, read_coco
from mmcv_custom.errors import DataError

CLASSES = ("cat", "dog")
ODD = (
    *(None, True, False, "", "1", "x", 0, -1, 1, 2, 3, 7.5, -2.5, 1e30, 10**400, float("nan"), float("inf")),
    *([], [1], {}, {"a": 1}, [[]], [None], "NaN", -float("inf"), 2**63, "é\u0000"),
)


def sound(case: Case) -> dict:
    """Return the content of a sound file: three images and their objects, with masks in one of COCO's three forms."""
    images = [dict(id=i + 1, file_name=f"{i}.png", width=40, height=30) for i in range(3)]
    form = case.choose("polygon", "counts", "text", "none")
    annotations = []
    for i in range(case.choose(1, 2, 5)):
        x, y, w, h = case.random.randint(0, 20), case.random.randint(0, 10), case.random.randint(4, 18), 12
        mask = np.zeros((30, 40), np.uint8, order="F")
        mask[y : y + h, x : x + w] = 1
        polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        text = rle_codec.encode(mask)
        runs = np.diff(np.flatnonzero(np.diff(mask.ravel("F"), prepend=0, append=0)), prepend=0)
        counts = [int(n) for n in [*runs, 30 * 40 - runs.sum()]]
        mask_of = dict(
            polygon=polygon, counts=dict(size=[30, 40], counts=counts), none=None,
            text=dict(size=[30, 40], counts=text["counts"].decode()),
        )  # fmt: skip
        entry = dict(id=i + 1, image_id=i % 3 + 1, category_id=i % 2 + 1, bbox=[x, y, w, h], area=w * h, iscrowd=0)
        annotations.append(entry | (dict(segmentation=mask_of[form]) if form != "none" else {}))
    return dict(
        images=images, annotations=annotations, categories=[dict(id=i + 1, name=n) for i, n in enumerate(CLASSES)]
    )


def values(content, path=()):
    """Yield the path of each value inside a JSON content."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in items:
        yield (*path, name)
        yield from values(value, (*path, name))


def change(case: Case, content: dict) -> str:
    """Change one thing in ``content`` and return what, in words."""
    *parents, name = case.random.choice(list(values(content)))
    parent = functools.reduce(lambda node, step: node[step], parents, content)
    how = case.choose("delete", "odd", "odd", "type", "double", "scale", "own")
    if how == "delete":
        del parent[name]
    elif how == "odd":
        parent[name] = copy.deepcopy(case.choose(*ODD))
    elif how == "type":
        value = parent[name]
        parent[name] = str(value) if isinstance(value, (int, float)) else [value] if case.choose(0, 1) else repr(value)
    elif how == "double" and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[name]))
    elif how == "scale" and isinstance(parent[name], (int, float)):
        parent[name] = parent[name] * case.choose(-1, 0.01, 100, 1.0)
    else:
        return own_change(case, content)
    return f"{how} {'.'.join(map(str, (*parents, name)))} -> {str(parent[name])[:30] if how != 'delete' else ''}"


def own_change(case: Case, content: dict) -> str:
    """Change a file as known tools do."""
    annotations = content.get("annotations")
    found = [entry for entry in annotations if isinstance(entry, dict)] if isinstance(annotations, list) else []
    how = case.choose(
        *("no annotations", "ids as text", "no area", "no iscrowd", "crowds", "two points", "outside", "corners"),
        *("normalised", "equal ids", "orphans", "images twice", "no info", "ignore", "zero box", "float ids"),
    )
    for entry in found:
        box = entry.get("bbox") if isinstance(entry.get("bbox"), list) and len(entry["bbox"]) == 4 else [1, 1, 2, 2]
        changes = {
            "no area": dict(area=None), "no iscrowd": dict(iscrowd=None), "crowds": dict(iscrowd=1),
            "two points": dict(segmentation=[[1, 1, 9, 9]]), "outside": dict(bbox=[100, 100, 5, 5]),
            "corners": dict(bbox=[5, 5, 39, 29]), "equal ids": dict(id=1),
            "normalised": dict(bbox=[0.1, 0.1, 0.5, 0.5]),
            "orphans": dict(image_id=99), "ignore": dict(ignore=1), "zero box": dict(bbox=[*box[:2], 0, 0]),
            "float ids": dict(id=1.5, image_id=float(entry.get("image_id") or 0)) if is_plain(entry) else {},
            "ids as text": dict(image_id=str(entry.get("image_id"))),
        }  # fmt: skip
        entry.update(changes.get(how, {}))
    if how == "no annotations":
        content["annotations"] = []
    if how == "images twice" and isinstance(content.get("images"), list):
        content["images"] *= 2
    return how


def is_plain(entry: dict) -> bool:
    """Return whether the entry's image has a number of ordinary size."""
    return isinstance(entry.get("image_id"), (int, float)) and abs(entry["image_id"]) < 1e9


def written(case: Case, content: object) -> bytes:
    """Return the bytes of a file, sometimes broken."""
    text = json.dumps(content)
    how = case.choose(*["plain"] * 9, "cut", "BOM", "UTF-16", "latin", "deep", "other")
    case.given += f"; {how}"
    return {
        "cut": text[: case.random.randrange(len(text))].encode(),
        "BOM": b"\xef\xbb\xbf" + text.encode(),
        "UTF-16": text.encode("utf-16"),
        "latin": text.replace("cat", "k\xe4tz").encode("latin-1"),
        "deep": b"[" * 100000,
        "other": case.choose(b"", b"null", b"[]", b"3", b"{}", b"\x00\xff", b'"text"'),
    }.get(how, text.encode())


def run(case: Case) -> None:
    """Check one file, and where it is taken, load everything in it for training and evaluate its own truth."""
    content, changes = sound(case), []
    for _ in range(case.choose(0, 1, 1, 1, 2, 3)):
        changes.append(change(case, content))
        if not content:
            break
    case.given = "; ".join(changes) or "sound"
    file = case.folder / "a.json"
    file.write_bytes(written(case, content))
    for i in range(3):
        Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(case.folder / f"{i}.png")
    tool = load_check()
    told = tool.problems(file, case.folder, CLASSES)  # never raises
    for sentence in told:
        if "\n" in sentence or "a.json" not in sentence and str(case.folder) not in sentence:
            raise Broken(f"check_coco.py says {sentence!r}")
    training, masks = case.choose(True, False), case.choose(True, False)
    accepted = case.allow(check_coco, str(file), CLASSES, "d", training, masks, names=("a.json",))
    if accepted is None:
        if not told:
            raise Broken("check_coco.py finds no problem and a run is refused")
        return
    if case.allow(check_coco_images, accepted[0], str(file), str(case.folder), "d", names=("a.json", ".png")) is False:
        return
    try:
        check_coco_images(accepted[0], str(file), str(case.folder), "d")
    except DataError:
        return
    load(case, training, masks)


@functools.cache
def load_check():
    """Return tools/dataset_converters/check_coco.py."""
    return load_script("tools/dataset_converters/check_coco.py")


def load(case: Case, training: bool, masks: bool) -> None:
    """Load every sample of a file that the checks have taken; evaluate it where it is not trained on."""
    from mmdet.registry import DATASETS, METRICS
    from mmengine.registry import init_default_scope

    import mmdet_custom  # noqa: F401

    init_default_scope("mmdet")
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True, with_mask=masks),
        dict(type="Resize", scale=(64, 64), keep_ratio=True),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackDetInputs"),
    ]
    data = DATASETS.build(
        dict(
            type="CocoDataset", ann_file=str(case.folder / "a.json"), data_prefix=dict(img=str(case.folder)),
            metainfo=dict(classes=CLASSES), pipeline=pipeline, test_mode=not training, serialize_data=False,
        )
    )  # fmt: skip
    samples = [data[i] for i in range(len(data))]
    for sample in samples:
        boxes = sample["data_samples"].gt_instances.bboxes.tensor
        if not boxes.isfinite().all():
            raise Broken("a box that is loaded is not finite")
        if masks:
            sample["data_samples"].gt_instances.masks.to_ndarray()
    if training:
        return
    file = str(case.folder / "a.json")
    metric = METRICS.build(dict(type="CocoMetric", ann_file=file, metric=["bbox", *(["segm"] if masks else [])]))
    metric.dataset_meta = data.metainfo
    content = complete(read_coco(file))
    labels = {entry["id"]: CLASSES.index(entry["name"]) for entry in content["categories"] if entry["name"] in CLASSES}
    for sample in samples:
        metric.process({}, [perfect(sample["data_samples"], content, labels, masks)])
    scores = metric.evaluate(len(samples))
    counted = [a for a in content["annotations"] if not a["iscrowd"]]
    if not counted:
        return
    worst = min(scores[f"coco/{kind}_mAP"] for kind in (["bbox", "segm"] if masks else ["bbox"]))
    # Of a place as far away as 1e30, a width cannot be told in numbers of 64 bits.
    if worst < 0.95 and not any(
        a.get("ignore") or min(a["bbox"][2:]) <= 0 or max(map(abs, a["bbox"])) > 1e12 for a in counted
    ):
        raise Broken(f"the truth itself has the scores {scores}")


def perfect(sample, content: dict, labels: dict, masks: bool) -> dict:
    """Return the prediction that equals the truth of one image, without crowds.

    Args:
        labels: id of a category -> its label.
    """
    known = [a for a in content["annotations"] if a["image_id"] == sample.img_id and not a["iscrowd"]]
    known = [a for a in known if a["category_id"] in labels]
    boxes = np.array([a["bbox"] for a in known], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    found = dict(
        bboxes=torch.from_numpy(boxes),
        scores=torch.ones(len(known)),
        labels=torch.tensor([labels[a["category_id"]] for a in known], dtype=torch.long),
    )
    if masks:
        found["masks"] = [run_lengths(a["segmentation"], *sample.ori_shape) for a in known]
    return dict(img_id=sample.img_id, ori_shape=sample.ori_shape, pred_instances=found)


def run_lengths(segmentation: list | dict, height: int, width: int) -> dict:
    """Return a segmentation in COCO's compressed form."""
    if isinstance(segmentation, list):
        return rle_codec.merge(rle_codec.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return rle_codec.frPyObjects(segmentation, height, width)
    return segmentation
