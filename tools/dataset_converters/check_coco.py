"""Check a COCO-style data set before training: print one sentence for each kind of problem.

    python tools/dataset_converters/check_coco.py ANNOTATION_JSON IMAGE_FOLDER [--classes cat,dog] [--quick]
    python tools/dataset_converters/check_coco.py --tree data/coco

``--tree`` checks every ``annotations/instances_SPLIT.json`` with the images in ``SPLIT/`` or ``images/SPLIT/``. Exit
status 0 without a problem, 1 with one. ``--quick`` only checks that the images exist; without it, each image is decoded
and its size compared.
"""

import argparse
from pathlib import Path

from whole_folder import run

from mmcv_custom import DataError
from mmcv_custom.cli.closed_pipe import ending_with_the_reader
from mmcv_custom.data.checks.coco import OTHER_SIZE, OTHER_SIZE_CURE, size_difference
from mmcv_custom.data.checks.coco_faults import REFUSED, coco_faults, entries
from mmcv_custom.data.checks.coco_usage import coco_usage
from mmcv_custom.data.checks.findings import Findings
from mmcv_custom.data.coco_file import TABLES, complete, read_coco
from mmcv_custom.data.image_files import check_image, loaded_size

COCO = ("train2017", "val2017")


def check_categories(content, classes, findings):
    """Compare the category names with the config's classes."""
    names = [str(entry.get("name")) for entry in entries(content, "categories")]
    if classes is None or not names:
        return
    for name in classes:
        if name not in names:
            findings.add(
                "classes that are not categories of the file",
                name,
                f"the file has {shorten(names)}; correct the classes of the config or the file",
            )
    for name in names:
        if name not in classes:
            findings.add(
                "categories that are not among the classes",
                name,
                "their annotations are ignored in training; add them to the classes of the config if they are needed",
            )
    common = [name for name in names if name in classes]
    if set(common) == set(classes) and common != list(classes):
        findings.add(
            "different orders of the classes",
            f"file {shorten(common)}, classes {shorten(classes)}",
            "labels follow the order of the file: write the classes in that order",
        )


def shorten(names):
    """Return the first ten names as text."""
    return " ".join(names[:10]) + (" ..." if len(names) > 10 else "")


def check_images(content, folder, quick, findings):
    """Check the image files in ``folder``, and unless ``quick`` that they decode to the sizes in the file."""
    for entry in entries(content, "images"):
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            continue
        if not (folder / name).is_file():
            findings.add(f"images missing in {folder}", name, "download or unpack them, or correct the folder")
        elif not quick:
            check_file(folder / name, entry, findings)


def check_file(path, entry, findings):
    """Decode an image and compare its size, as it is loaded, with that of its ``entry`` in the annotation file."""
    try:
        check_image(str(path))
        found = loaded_size(path)
    except DataError as error:
        findings.add("images that do not decode", error, "download or create them again")
        return
    if entry.get("width") and entry.get("height") and found != (entry["width"], entry["height"]):
        findings.add(OTHER_SIZE, size_difference(entry, found), OTHER_SIZE_CURE)


# --- all checks -------------------------------------------------------------------------------------------------------


def inspect(annotation, image_folder, classes=None, quick=False):
    """Return the problems, the number of entries in each table (table -> int) and a remark on what is used, or None."""
    annotation, folder = Path(annotation), Path(image_folder)
    try:
        content = read_coco(annotation)
    except DataError as error:
        return [str(error)], dict.fromkeys(TABLES, 0), None
    findings, sound, found = Findings(), True, []
    for table in TABLES:
        if not content[table]:
            findings.add(
                "missing tables",
                f'has an empty list "{table}"',
                f"an instances file needs all three of {', '.join(TABLES)}, none of them empty",
            )
    for fault in coco_faults(content):
        findings.add(*fault[:3])
        sound = sound and fault.effect != REFUSED
    check_categories(content, classes, findings)
    if folder.is_dir():
        check_images(content, folder, quick, findings)
    else:
        found.append(f"{folder} is not a folder; download or unpack the images, or correct the path")
    found += findings.sentences(annotation)
    counts, remark = {table: len(entries(content, table)) for table in TABLES}, None
    if sound and content["annotations"]:
        known = classes or [category["name"] for category in content["categories"]]
        usage = coco_usage(complete(content), known, training=True)
        if not usage.used:
            found.append(f"{annotation}: there is nothing to train on: {usage.sentence()}")
        elif usage.skipped:
            remark = f"{annotation}: {usage.sentence()}"
    return found, counts, remark


def problems(annotation, image_folder, classes=None, quick=False):
    """Return one sentence for each kind of problem of a COCO-style data set; invalid content never raises.

    Args:
        annotation: path of the annotation file.
        image_folder: folder of its images.
        classes: class names of the config in their order; None for any.
        quick: do not decode the images.
    """
    return inspect(annotation, image_folder, classes, quick)[0]


def pairs_of(tree):
    """Return the pairs (annotation file, image folder) of a tree; without any, those that COCO has."""
    files = sorted(tree.glob("annotations/instances_*.json"))
    splits = [file.stem.removeprefix("instances_") for file in files]
    if not splits or set(splits) & set(COCO):
        splits = list(dict.fromkeys([*COCO, *splits]))
    return [(tree / f"annotations/instances_{split}.json", image_folder(tree, split)) for split in splits]


def image_folder(tree, split):
    """Return the folder of the images of a split: ``SPLIT``, or ``images/SPLIT`` if only that exists."""
    below = tree / "images" / split
    return below if below.is_dir() and not (tree / split).is_dir() else tree / split


def moved(pairs):
    """Return a sentence if COCO's images lie where its configs do not look for them, else None."""
    names = [folder.name for _, folder in pairs if folder.name in COCO and folder.parent.name == "images"]
    if not names:
        return None
    places = " and ".join(f"images/{name}" for name in names)
    return (
        f"Note: the images are in {places}, and the configs look in {' and '.join(names)}: link the folders there, or "
        "set data_prefix of the data sets"
    )


def report(annotation, image_folder, classes, quick):
    """Print the problems of one pair and a summary; return the number of problems."""
    found, counts, remark = inspect(annotation, image_folder, classes, quick)
    for sentence in [*found, *filter(None, [remark])]:
        print(sentence)
    size = ", ".join(f"{count} {table}" for table, count in counts.items())
    kinds = f"{len(found)} kind{'s' * (len(found) != 1)} of problem" if found else "no problem"
    print(f"{annotation} with {image_folder}: {size}; {kinds}")
    return len(found)


def main():
    parser = argparse.ArgumentParser(description="Report problems of a COCO-style data set.")
    parser.add_argument("annotation", nargs="?", metavar="ANNOTATION_JSON")
    parser.add_argument("images", nargs="?", metavar="IMAGE_FOLDER")
    parser.add_argument("--tree", metavar="FOLDER", help="check all pairs of a folder such as data/coco")
    parser.add_argument("--classes", help="class names of the config, separated by commas")
    parser.add_argument("--quick", action="store_true", help="do not decode the images")
    args = parser.parse_args()
    if args.tree and args.annotation or not args.tree and not args.images:
        parser.error("give ANNOTATION_JSON and IMAGE_FOLDER, or --tree FOLDER")
    pairs = pairs_of(Path(args.tree)) if args.tree else [(args.annotation, args.images)]
    classes = [name.strip() for name in args.classes.split(",")] if args.classes else None
    bad = sum(report(*pair, classes, args.quick) for pair in pairs)
    note = moved(pairs) if args.tree else None
    if note:
        print(note)
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    with ending_with_the_reader():
        run(main)
