"""Make label maps of the 59 classes of Pascal-Context for the images of PASCAL VOC 2010, in mmseg's layout.

LABELS is the unpacked trainval.tar.gz of Pascal-Context: a .mat file for every image, and labels.txt, which numbers
459 labels ("2: aeroplane"); labels that are none of the 59 classes become 0, which is ignored. VOC is the folder
VOC2010 of PASCAL VOC's development kit. The splits are VOC's train and val.

    python tools/dataset_converters/pascal_context.py LABELS data/VOCdevkit/VOC2010

    VOC/SegmentationClassContext/*.png                   1 to 59 in alphabetical order; 0 elsewhere
    VOC/ImageSets/SegmentationContext/{train,val}.txt    names of the images
"""

import argparse
from pathlib import Path

import numpy as np
from mat_maps import read_map, read_names
from PIL import Image
from whole_folder import check_files, check_replaceable, run, whole_folder

URL = "https://cs.stanford.edu/~roozbeh/pascal-context/"
SPLITS = ("train", "val")
CLASSES = (
    "aeroplane bag bed bedclothes bench bicycle bird boat book bottle building bus cabinet car cat ceiling chair "
    "cloth computer cow cup curtain dog door fence floor flower food grass ground horse keyboard light motorbike "
    "mountain mouse person plate platform pottedplant road rock sheep shelves sidewalk sign sky snow sofa table track "
    "train tree truck tvmonitor wall water window wood"
).split()


def read_numbers(path):
    """Return an array: label number -> class 1 to 59, or 0; raise ValueError if labels.txt lacks a class."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; get it from {URL}")
    lines = [line.split(":", 1) for line in path.read_text().splitlines() if ":" in line]
    number_of = {name.replace(" ", ""): int(number) for number, name in lines}
    if missing := [name for name in CLASSES if name not in number_of]:
        raise ValueError(f"{path} does not name {', '.join(missing)}; get it again from {URL}")
    classes = np.zeros(max(number_of.values()) + 2, np.uint8)  # the last entry stands for all larger numbers
    classes[[number_of[name] for name in CLASSES]] = range(1, len(CLASSES) + 1)
    return classes


def convert(labels, voc, overwrite=False):
    """Convert the folder ``labels`` to label maps and lists in the folder ``voc``, unless these exist already.

    Raises:
        ValueError: a folder is not the data set, or ``voc`` has other label maps and ``overwrite`` is not set.
    """
    labels, voc = Path(labels).resolve(), Path(voc).resolve()
    maps, lists = voc / "SegmentationClassContext", voc / "ImageSets" / "SegmentationContext"
    splits = {split: read_names(voc / "ImageSets" / "Main" / f"{split}.txt") for split in SPLITS}
    names = [name for split in splits.values() for name in split]
    check_files([voc / "JPEGImages" / f"{name}.jpg" for name in names], "images")
    check_files([labels / f"{name}.mat" for name in names], "label maps")
    classes = read_numbers(labels / "labels.txt")
    contents = {lists / f"{split}.txt": "\n".join(found) + "\n" for split, found in splits.items()}
    # Folders are written whole or not at all, the lists last, so names are enough; the final check reads the maps.
    if (
        not overwrite
        and {path.stem for path in maps.glob("*")} == {*names}
        and all(path.is_file() and path.read_text() == text for path, text in contents.items())
    ):
        return
    for folder in (maps, lists):
        check_replaceable(folder, overwrite)
    with whole_folder(maps) as folder:
        for name in names:
            numbers = read_map(labels / f"{name}.mat", "LabelMap", voc / "JPEGImages" / f"{name}.jpg")
            Image.fromarray(classes[np.minimum(numbers, len(classes) - 1)]).save(folder / f"{name}.png")
    with whole_folder(lists) as folder:
        for path, text in contents.items():
            (folder / path.name).write_text(text)


def main():
    parser = argparse.ArgumentParser(description="Make the label maps of the 59 classes of Pascal-Context.")
    parser.add_argument("labels", metavar="LABELS", help="folder of .mat files and labels.txt, from Pascal-Context")
    parser.add_argument("voc", metavar="VOC", help="the folder VOC2010 of PASCAL VOC")
    parser.add_argument("--overwrite", action="store_true", help="convert again and replace the label maps in VOC")
    args = parser.parse_args()
    convert(**vars(args))
    from check_label_maps import check  # loads torch, which takes seconds

    raise SystemExit(1 if check("pascal_context", args.voc) else 0)


if __name__ == "__main__":
    run(main)
