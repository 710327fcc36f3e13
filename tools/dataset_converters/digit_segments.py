"""Make panoptic labels, and instances of one class, of digit scenes: every digit is an object, the rest is stuff.

    python tools/dataset_converters/digit_scenes.py data/digit_scenes
    python tools/dataset_converters/digit_segments.py data/digit_scenes data/digit_segments

OUT gets the images (as links where the disk allows it), annotations/panoptic_{train,val}.json with the maps
annotations/panoptic_{train,val}/, in COCO's panoptic format, and annotations/objects_{train,val}.json, COCO instances.

Shapes: h x w pixels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils
from whole_folder import check_apart, check_files, check_replaceable, holds, link_or_copy, run, whole_folder

SPLITS = ("train", "val")
DIGIT, BACKGROUND = 1, 2
CATEGORIES = [dict(id=DIGIT, name="digit", isthing=1), dict(id=BACKGROUND, name="background", isthing=0)]


def segments_of(objects: list[dict], height: int, width: int) -> tuple[np.ndarray, list[dict]]:
    """Return the ids (h, w) of the segments of an image, and their records.

    Args:
        objects: COCO annotations with run-length masks that do not overlap.
    """
    ids = np.zeros((height, width), np.int64)
    for number, one in enumerate(objects, start=2):
        ids[mask_utils.decode(one["segmentation"]).astype(bool)] = number
    ids[ids == 0] = 1
    records = []
    for number in np.unique(ids).tolist():
        rows, columns = np.nonzero(ids == number)
        left, top = int(columns.min()), int(rows.min())
        box = [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]
        category = BACKGROUND if number == 1 else DIGIT
        records.append(dict(id=number, category_id=category, bbox=box, area=len(rows), iscrowd=0))
    return ids, records


def convert(source: Path, out: Path, split: str) -> None:
    """Write one split into the folder ``out``."""
    content = json.loads((source / f"annotations/instances_{split}.json").read_text())
    images = content["images"]
    check_files([source / split / image["file_name"] for image in images], "images")
    (out / split).mkdir()
    (out / f"annotations/panoptic_{split}").mkdir(parents=True)
    objects: dict[int, list[dict]] = {image["id"]: [] for image in images}
    for one in content["annotations"]:
        objects[one["image_id"]].append(one)
        one["category_id"] = DIGIT
    panoptic = []
    for image in images:
        link_or_copy(source / split / image["file_name"], out / split / image["file_name"])
        ids, records = segments_of(objects[image["id"]], image["height"], image["width"])
        name = f"{Path(image['file_name']).stem}.png"
        colours = np.stack([ids % 256, ids // 256, np.zeros_like(ids)], axis=-1).astype(np.uint8)
        Image.fromarray(colours).save(out / f"annotations/panoptic_{split}" / name)
        panoptic.append(dict(image_id=image["id"], file_name=name, segments_info=records))
    files = dict(
        objects=dict(content, categories=[dict(id=DIGIT, name="digit")]),
        panoptic=dict(images=images, annotations=panoptic, categories=CATEGORIES),
    )
    for kind, written in files.items():
        (out / f"annotations/{kind}_{split}.json").write_text(json.dumps(written))


def is_complete(source: Path, out: Path) -> bool:
    """Return whether ``out`` holds the files made of ``source``."""
    wanted = {f"annotations/{kind}_{split}.json" for kind in ("objects", "panoptic") for split in SPLITS}
    for split in SPLITS:
        for image in json.loads((source / f"annotations/instances_{split}.json").read_text())["images"]:
            name = image["file_name"]
            wanted |= {f"{split}/{name}", f"annotations/panoptic_{split}/{Path(name).stem}.png"}
    return holds(out, wanted)


def make(source: Path, out: Path, overwrite: bool = False) -> None:
    """Make the data set in the folder ``out`` of the digit scenes in ``source``, unless it is there.

    Raises:
        ValueError: ``source`` holds no digit scenes, or ``out`` something else and ``overwrite`` is not set.
    """
    source, out = source.resolve(), out.resolve()
    check_apart(source, out)
    check_files([source / f"annotations/instances_{split}.json" for split in SPLITS], "annotation files")
    if not overwrite and is_complete(source, out):
        return
    check_replaceable(out, overwrite)
    with whole_folder(out) as folder:
        for split in SPLITS:
            convert(source, folder, split)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder that digit_scenes.py made")
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder")
    parser.add_argument("--overwrite", action="store_true", help="replace everything in OUT")
    args = parser.parse_args()
    make(**vars(args))
    print(f"{args.out}: panoptic segments, and objects of one class, of {args.source}")


if __name__ == "__main__":
    run(main)
