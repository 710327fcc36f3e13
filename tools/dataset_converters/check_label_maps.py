"""Check a data set of images and label maps before training: print one sentence for each kind of problem.

    python tools/dataset_converters/check_label_maps.py ade20k data/ade/ADEChallengeData2016
    python tools/dataset_converters/check_label_maps.py coco_stuff10k data/coco_stuff10k
    python tools/dataset_converters/check_label_maps.py pascal_context data/VOCdevkit/VOC2010

Every image must have a label map of the same size, every label map an image, and all labels must be classes. Exit
status 0 without a problem, 1 with one; a number of images that differs from the official one is only noted.
``--quick`` compares names only; without it, every label map is decoded and the header of every image is read.
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from check_coco import Findings
from PIL import Image
from whole_folder import run

from mmcv_custom.cli.closed_pipe import ending_with_the_reader
from mmcv_custom.data.image_files import list_folder, loaded_size
from mmcv_custom.data.visible_files import is_hidden
from mmcv_custom.errors import DataError

MODES = ("L", "P")  # one byte per pixel: a grey value or a palette index


@dataclass(frozen=True)
class Split:
    """Folders of a split and its official number of images; ``names`` is a file that lists them, None for all."""

    images: str
    labels: str
    official: int
    names: str | None = None


@dataclass(frozen=True)
class Layout:
    """Layout of a data set whose label maps hold 1 to ``classes``, and 0 for ignored pixels."""

    classes: int
    splits: tuple[Split, ...]
    suffix: str = ".png"


LAYOUTS = dict(
    ade20k=Layout(
        150,
        (
            Split("images/training", "annotations/training", 20210),
            Split("images/validation", "annotations/validation", 2000),
        ),
    ),
    coco_stuff10k=Layout(
        171,
        (
            Split("images/train2014", "annotations/train2014", 9000),
            Split("images/test2014", "annotations/test2014", 1000),
        ),
        "_labelTrainIds.png",
    ),
    pascal_context=Layout(
        59,
        (
            Split("JPEGImages", "SegmentationClassContext", 4998, "ImageSets/SegmentationContext/train.txt"),
            Split("JPEGImages", "SegmentationClassContext", 5105, "ImageSets/SegmentationContext/val.txt"),
        ),
    ),
)


def names_of(folder, split, suffix, findings):
    """Return the names without suffix of the images of a split that have a label map; report the others."""
    listed, others = list_folder(folder / split.images)
    images = {name[:-4] for name in listed if name.endswith(".jpg")}
    labels = {name[: -len(suffix)] for name in list_folder(folder / split.labels)[0] if name.endswith(suffix)}
    for name in sorted({*listed, *others} - {f"{name}.jpg" for name in images}):
        if split.names is None and not is_hidden(name.rstrip("/")):
            findings.add("files left out of the images", name, "the data set reads .jpg only, in no subfolder")
    if split.names is None:
        wanted = images
        for name in sorted(labels - images):
            findings.add("label maps without an image", name, f"put the .jpg into {folder / split.images}")
    else:
        given = (folder / split.names).read_text().split()
        for name, count in Counter(given).items():
            if count > 1:
                findings.add(f"names that {split.names} lists more than once", name, "keep one of each")
        wanted = set(given)
        for name in sorted(wanted - images):
            findings.add("images missing", f"{name}.jpg", f"put them into {folder / split.images}")
    for name in sorted(wanted - labels):
        findings.add("label maps missing", name + suffix, f"put them into {folder / split.labels}")
    return sorted(wanted & images & labels)


def check_pair(photo, path, classes, findings):
    """Check a label map and the header of its image; return the set of labels."""
    try:
        size = loaded_size(photo)
        with Image.open(path) as image:
            labels, mode = np.asarray(image), image.mode
    except (OSError, SyntaxError, DataError) as error:
        findings.add("files that cannot be read", f"{photo.stem}: {error}", "unpack or convert them again")
        return set()
    if mode not in MODES:
        findings.add(
            "label maps that are not one byte per pixel", f"{path.name}: mode {mode}", "save them as 8-bit grey"
        )
        return set()
    if labels.shape != size[::-1]:
        findings.add(
            "label maps of another size than their image",
            f"{path.name} is {labels.shape[1]} x {labels.shape[0]}, not {size[0]} x {size[1]}",
            "unpack or convert them again",
        )
    found = {int(label) for label in np.flatnonzero(np.bincount(labels.ravel()))}
    for label in sorted(found):
        if label > classes:
            findings.add(
                "labels that are not a class",
                f"{path.name}: {label}",
                f"labels are 1 to {classes}, and 0 for ignored pixels: convert the data set again",
            )
    return found


def inspect(layout, split, folder, quick):
    """Return the sentences on one split and a summary."""
    absent = [part for part in (split.images, split.labels, split.names) if part and not (folder / part).exists()]
    if absent:
        return [f"{folder} has no {', no '.join(absent)}; see data/README.md for what goes where"], None
    findings = Findings()
    names = names_of(folder, split, layout.suffix, findings)
    if not names:
        findings.add("empty splits", f"no .jpg with a *{layout.suffix}", "see data/README.md for what goes where")
    seen = set()
    for name in () if quick else names:
        seen |= check_pair(
            folder / split.images / f"{name}.jpg",
            folder / split.labels / (name + layout.suffix),
            layout.classes,
            findings,
        )
    if seen and not seen & set(range(1, layout.classes + 1)):
        findings.add("splits whose pixels are all ignored", "label 0 only", "convert the data set again")
    where = folder / (split.names or split.images)
    summary = f"{where}: {len(names)} images with label maps"
    if not quick:
        summary += f", {len(seen & set(range(1, layout.classes + 1)))} of {layout.classes} classes among them"
    if len(names) != split.official:
        summary += f"; note: the official number is {split.official}"
    return list(findings.sentences(where)), summary


def check(name, folder, quick=False):
    """Print problems and a summary of the data set ``name`` in ``folder``; return the number of kinds of problems."""
    problems = 0
    for split in LAYOUTS[name].splits:
        sentences, summary = inspect(LAYOUTS[name], split, Path(folder), quick)
        problems += len(sentences)
        print(*sentences, *([summary] if summary else []), sep="\n")
    return problems


def main():
    parser = argparse.ArgumentParser(description="Report problems of a data set with label maps.")
    parser.add_argument("name", metavar="NAME", choices=LAYOUTS, help=", ".join(LAYOUTS))
    parser.add_argument("folder", metavar="FOLDER", help="the data set's folder")
    parser.add_argument("--quick", action="store_true", help="compare names only")
    raise SystemExit(1 if check(**vars(parser.parse_args())) else 0)


if __name__ == "__main__":
    with ending_with_the_reader():
        run(main)
