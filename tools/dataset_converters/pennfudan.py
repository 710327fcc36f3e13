"""Convert the Penn-Fudan pedestrian data set (170 images, one class) to COCO format.

SRC is the unpacked official folder with PNGImages/ (.png or .jpg) and PedMasks/ (<image>_mask.png, pixel value =
instance id). The split is fixed: with the images sorted by name, image i (from 0) is in val if 5 * i mod 17 < 5. That
is 5 of every 17 images: 120 train and 50 val, spread evenly over the FudanPed and the PennPed images.

    python tools/dataset_converters/pennfudan.py data/PennFudanPed data/pennfudan

    OUT/images/train/*                   hard links to SRC (copies on another disk); and images/val/
    OUT/annotations/instances_train.json COCO format, exact masks as RLE; and instances_val.json
"""

import argparse
import json
from pathlib import Path

import numpy as np
from pycocotools import mask as mask_utils
from whole_folder import (
    check_apart,
    check_pairs,
    check_replaceable,
    check_size,
    images_of,
    link_or_copy,
    open_image,
    run,
    whole_folder,
)

OFFICIAL_IMAGES = 170
URL = "https://www.cis.upenn.edu/~jshi/ped_html/"
SUFFIXES = (".png", ".jpg", ".jpeg")


def find_images(src):
    """Return pairs (image, mask) of paths, sorted by name; raise ValueError if a folder or a mask is missing."""
    for name in ("PNGImages", "PedMasks"):
        if not (src / name).is_dir():
            raise ValueError(f"{src} has no folder {name}; give the unpacked PennFudanPed folder (from {URL})")
    images = images_of(src / "PNGImages", SUFFIXES)
    if not images:
        raise ValueError(f"{src / 'PNGImages'} holds no .png or .jpg image; unpack the data set again")
    pairs = [(path, src / "PedMasks" / f"{path.stem}_mask.png") for path in images]
    check_pairs(pairs, "masks")
    return pairs


def split_images(pairs):
    """Return split -> pairs, by the rule at the top of this file."""
    splits = dict(train=[], val=[])
    for index, pair in enumerate(pairs):
        splits["val" if 5 * index % 17 < 5 else "train"].append(pair)
    return splits


def read_instances(image, mask):
    """Return the size (width, height) of an image and the COCO fields of each person in its mask."""
    ids = np.asarray(open_image(mask))
    check_size(ids, mask, image)
    people = []
    for value in np.unique(ids[ids > 0]):  # some ids have no pixels
        rle = mask_utils.encode(np.asfortranarray(ids == value, dtype=np.uint8))
        people.append(
            dict(
                category_id=1,
                segmentation=dict(size=[int(side) for side in rle["size"]], counts=rle["counts"].decode("ascii")),
                bbox=mask_utils.toBbox(rle).tolist(),
                area=int(mask_utils.area(rle)),
                iscrowd=0,
            )
        )
    return ids.shape[::-1], people


def convert_split(pairs, split):
    """Return the COCO annotations of one split as a dict."""
    images, annotations = [], []
    for image, mask in pairs:
        (width, height), people = read_instances(image, mask)
        images.append(dict(id=len(images) + 1, file_name=image.name, width=width, height=height))
        for person in people:
            annotations.append(dict(id=len(annotations) + 1, image_id=len(images), **person))
    return dict(
        info=dict(description="Penn-Fudan pedestrians", url=URL, split=split),
        images=images,
        annotations=annotations,
        categories=[dict(id=1, name="person", supercategory="person")],
    )


def is_complete(out, contents):
    """Return whether ``out`` already holds these annotations (split -> dict) and a file for every image."""
    for split, content in contents.items():
        try:
            found = json.loads((out / "annotations" / f"instances_{split}.json").read_text())
        except (OSError, ValueError):
            return False
        folder = out / "images" / split
        if found != content or not all((folder / image["file_name"]).is_file() for image in content["images"]):
            return False
    return True


def convert(src, out, overwrite=False):
    """Convert the folder ``src`` to ``out``, unless that already holds the result; return split -> number of images.

    Raises:
        ValueError: ``src`` is not the data set, or ``out`` holds something else and ``overwrite`` is not set.
    """
    src, out = Path(src).resolve(), Path(out).resolve()
    check_apart(src, out)
    splits = split_images(find_images(src))
    contents = {split: convert_split(pairs, split) for split, pairs in splits.items()}
    counts = {split: len(pairs) for split, pairs in splits.items()}
    if not overwrite and is_complete(out, contents):
        return counts
    check_replaceable(out, overwrite)
    with whole_folder(out) as folder:
        (folder / "annotations").mkdir()
        for split, content in contents.items():
            (folder / "images" / split).mkdir(parents=True)
            for image, _ in splits[split]:
                link_or_copy(image, folder / "images" / split / image.name)
            (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return counts


def main():
    parser = argparse.ArgumentParser(description="Convert Penn-Fudan to COCO format, 120 train and 50 val images.")
    parser.add_argument("src", metavar="SRC", help="the unpacked PennFudanPed folder")
    parser.add_argument("out", metavar="OUT", help="output folder")
    parser.add_argument("--overwrite", action="store_true", help="convert again and replace everything in OUT")
    args = parser.parse_args()
    counts = convert(**vars(args))
    print(f"{args.out}: {counts['train']} train and {counts['val']} val images")
    if sum(counts.values()) != OFFICIAL_IMAGES:
        print(f"note: {args.src} has {sum(counts.values())} images, the official set has {OFFICIAL_IMAGES}")


if __name__ == "__main__":
    run(main)
