"""Convert COCO-Stuff-10k (10,000 images, 171 classes) to the layout of the configs, which is mmseg's.

SRC is the unpacked cocostuff-10k-v1.1.zip: images/*.jpg, annotations/*.mat, imageLists/train.txt and test.txt. Of the
182 label numbers of COCO-Stuff, eleven are unused; the classes are the others in their order, counted from 1.

    python tools/dataset_converters/coco_stuff10k.py SRC data/coco_stuff10k

    OUT/images/train2014/*.jpg                      hard links to SRC (copies on another disk); and test2014/
    OUT/annotations/train2014/*_labelTrainIds.png   1 to 171, 0 where unlabelled; and test2014/
"""

import argparse
from pathlib import Path

import numpy as np
from mat_maps import read_map, read_names
from PIL import Image
from whole_folder import check_apart, check_files, check_replaceable, holds, link_or_copy, run, whole_folder

SPLITS = dict(train="train2014", test="test2014")
NUMBERS, UNUSED = 182, (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
USED = [number for number in range(1, NUMBERS + 1) if number not in UNUSED]
CLASS_OF = np.full(NUMBERS + 2, -1)  # the last entry stands for all larger numbers
CLASS_OF[[0, *USED]] = range(len(USED) + 1)


def find_images(src):
    """Return folder name of a split -> names of its images; raise ValueError if a file is missing."""
    splits = {split: read_names(src / "imageLists" / f"{name}.txt") for name, split in SPLITS.items()}
    names = [name for split in splits.values() for name in split]
    check_files([src / "images" / f"{name}.jpg" for name in names], "images")
    check_files([src / "annotations" / f"{name}.mat" for name in names], "label maps")
    return splits


def read_labels(src, name):
    """Return the converted label map (h, w) uint8 of an image; raise ValueError if it does not fit the image."""
    path = src / "annotations" / f"{name}.mat"
    numbers = read_map(path, "S", src / "images" / f"{name}.jpg")
    labels = CLASS_OF[np.minimum(numbers, NUMBERS + 1)]
    if (labels < 0).any():
        raise ValueError(
            f"{path} has label {numbers[labels < 0][0]}, which is not used in COCO-Stuff; unpack the data set again"
        )
    return labels.astype(np.uint8)


def is_complete(out, splits):
    """Return whether ``out`` holds the converted ``splits``; the final check reads the contents."""
    return holds(
        out,
        {
            file
            for split, names in splits.items()
            for name in names
            for file in (f"images/{split}/{name}.jpg", f"annotations/{split}/{name}_labelTrainIds.png")
        },
    )


def convert(src, out, overwrite=False):
    """Convert the folder ``src`` to ``out``, unless that already holds the result.

    Raises:
        ValueError: ``src`` is not the data set, or ``out`` holds something else and ``overwrite`` is not set.
    """
    src, out = Path(src).resolve(), Path(out).resolve()
    check_apart(src, out)
    splits = find_images(src)
    if not overwrite and is_complete(out, splits):
        return
    check_replaceable(out, overwrite)
    with whole_folder(out) as folder:
        for split, names in splits.items():
            images, labels = folder / "images" / split, folder / "annotations" / split
            images.mkdir(parents=True)
            labels.mkdir(parents=True)
            for name in names:
                Image.fromarray(read_labels(src, name)).save(labels / f"{name}_labelTrainIds.png")
                link_or_copy(src / "images" / f"{name}.jpg", images / f"{name}.jpg")


def main():
    parser = argparse.ArgumentParser(description="Convert COCO-Stuff-10k to the layout of the configs.")
    parser.add_argument("src", metavar="SRC", help="the unpacked cocostuff-10k-v1.1.zip")
    parser.add_argument("out", metavar="OUT", help="output folder")
    parser.add_argument("--overwrite", action="store_true", help="convert again and replace everything in OUT")
    args = parser.parse_args()
    convert(**vars(args))
    from check_label_maps import check  # loads torch, which takes seconds

    raise SystemExit(1 if check("coco_stuff10k", args.out) else 0)


if __name__ == "__main__":
    run(main)
