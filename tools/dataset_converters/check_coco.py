"""Check a COCO-style data set before training: print one sentence for each kind of problem.

    python tools/dataset_converters/check_coco.py ANNOTATION_JSON IMAGE_FOLDER [--classes cat,dog] [--quick]
    python tools/dataset_converters/check_coco.py --tree data/coco

Exit status 0 without a problem, 1 with one. ``--quick`` only checks that the images exist; without it, each image is
decoded and its size compared.
"""

import argparse
import json
import math
from collections import Counter
from pathlib import Path

from PIL import Image, UnidentifiedImageError

TABLES = ("images", "annotations", "categories")
TREE = (("annotations/instances_train2017.json", "train2017"), ("annotations/instances_val2017.json", "val2017"))
EXAMPLES = 3
SLACK = 1.0  # px that a box may exceed the border, because annotation tools round


class Findings:
    """Problems by kind, with their number and first examples."""

    def __init__(self):
        self.examples, self.counts, self.advice = {}, Counter(), {}

    def add(self, kind, example, advice):
        """Record one problem, and what to do about its kind."""
        self.counts[kind] += 1
        self.advice[kind] = advice
        examples = self.examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(str(example))

    def sentences(self, where):
        """Yield one sentence for each kind of problem; ``where`` names the checked file."""
        for kind, examples in self.examples.items():
            more = ", ..." if self.counts[kind] > len(examples) else ""
            yield f"{where}: {self.counts[kind]} {kind} ({', '.join(examples)}{more}); {self.advice[kind]}"


# --- reading ----------------------------------------------------------------------------------------------------------


def read(path):
    """Return the content of an annotation file, a dict; raise ValueError if it cannot be read as one."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; see data/README.md for what goes where") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); check the path and its permissions") from None
    if not text.strip():
        raise ValueError(f"{path} is empty; download or create it again")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); download or create it again") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a JSON {type(content).__name__}, not an object with the keys "
            f"{', '.join(TABLES)}; give an instances file in COCO format"
        )
    return content


def entries(content, table):
    """Return the entries of a table that are dicts; `check_tables` reports all others."""
    found = content.get(table)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def key(value):
    """Return an id as a hashable value, whatever its type in the file."""
    return value if isinstance(value, (int, str)) else repr(value)


def is_number(value):
    """Return whether a JSON value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


# --- one check each ---------------------------------------------------------------------------------------------------


def check_tables(content, findings):
    """Check that the three tables exist and that every entry has an id of its own."""
    for table in TABLES:
        found = content.get(table)
        if not isinstance(found, list) or not found:
            state = "has no list" if not isinstance(found, list) else "has an empty list"
            findings.add(
                "missing tables",
                f'{state} "{table}"',
                f"an instances file needs all three of {', '.join(TABLES)}, none of them empty",
            )
            continue
        for index, entry in enumerate(found):
            if not isinstance(entry, dict) or "id" not in entry:
                findings.add("entries without an id", f"{table}[{index}]", 'give every entry its own "id"')
        counts = Counter(key(entry["id"]) for entry in entries(content, table) if "id" in entry)
        for name, count in counts.items():
            if count > 1:
                findings.add(
                    f'duplicate ids in "{table}"',
                    f"{name} occurs {count} times",
                    'give every entry its own "id"; of equal ids only one entry is read',
                )


def check_categories(content, classes, findings):
    """Check the category names, and compare them with the config's classes."""
    names = [str(entry.get("name")) for entry in entries(content, "categories")]
    for name, count in Counter(names).items():
        if count > 1:
            findings.add("category names that occur more than once", name, "give every category its own name")
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
    """Check the entries of the images, and their files in ``folder``."""
    for entry in entries(content, "images"):
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            findings.add("images without a file_name", f"id {entry.get('id')}", "add it to the annotation file")
            continue
        size = entry.get("width"), entry.get("height")
        sized = all(is_number(side) and side > 0 for side in size)
        if not sized:
            findings.add("images without a width and height", name, "add them to the annotation file, in px")
        if not (folder / name).is_file():
            findings.add(f"images missing in {folder}", name, "download or unpack them, or correct the folder")
        elif not quick:
            check_file(folder / name, size if sized else None, findings)


def check_file(path, size, findings):
    """Decode an image and compare its size with ``size`` (width, height) in the annotation file, if that is known."""
    try:
        with Image.open(path) as image:
            image.load()
            found = image.size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        findings.add("images that do not decode", f"{path.name}: {why}", "download or create them again")
        return
    if size is not None and found != size:
        findings.add(
            "images of another size than in the annotation file",
            f"{path.name} is {found[0]} x {found[1]}, not {size[0]} x {size[1]}",
            "boxes and masks do not fit: use the images that the file was made for, or create it again",
        )


def check_annotations(content, findings):
    """Check image, category, area, box and segmentation of every annotation."""
    sizes = {key(entry.get("id")): (entry.get("width"), entry.get("height")) for entry in entries(content, "images")}
    sizes = {name: size if all(is_number(side) and side > 0 for side in size) else None for name, size in sizes.items()}
    categories = {key(entry.get("id")) for entry in entries(content, "categories")}
    for entry in entries(content, "annotations"):
        label = f"id {entry.get('id')}"
        image, category = key(entry.get("image_id")), key(entry.get("category_id"))
        if image not in sizes:
            findings.add(
                "annotations of an unknown image",
                f"{label}: image_id {image}",
                'add the image to "images" or remove the annotations',
            )
        if category not in categories:
            findings.add(
                "annotations of an unknown category",
                f"{label}: category_id {category}",
                'add the category to "categories" or remove the annotations',
            )
        if not (is_number(entry.get("area")) and entry["area"] >= 0):
            findings.add("annotations without an area", label, "add it in px; evaluation groups objects by area")
        check_box(entry.get("bbox"), sizes.get(image), label, findings)
        fault = segmentation_fault(entry.get("segmentation"), sizes.get(image))
        if fault:
            findings.add(
                "empty or invalid segmentations",
                f"{label}: {fault}",
                "create them again (polygons of at least 3 points, or RLE); training of masks needs them",
            )


def check_box(box, size, label, findings):
    """Check a box [x, y, width, height] in px against the ``size`` (width, height) of its image, if that is known."""
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        findings.add("boxes that are not four numbers", label, 'write "bbox" as [x, y, width, height] in px')
        return
    x, y, width, height = box
    if width <= 0 or height <= 0:
        findings.add(
            "degenerate boxes",
            f"{label}: {width:g} wide, {height:g} high",
            'remove them or give them a size ("bbox" is [x, y, width, height]); training skips them',
        )
    elif size is not None and (min(x, y) < -SLACK or x + width > size[0] + SLACK or y + height > size[1] + SLACK):
        findings.add(
            "boxes that reach outside the image",
            f"{label}: x {x:g}..{x + width:g}, y {y:g}..{y + height:g} in {size[0]} x {size[1]}",
            'clip them ("bbox" is [x, y, width, height], not two corners)',
        )


def segmentation_fault(segmentation, size):
    """Return what is wrong with a segmentation, or None; ``size`` is (width, height) of its image, or None."""
    if not segmentation:
        return "empty or missing"
    if isinstance(segmentation, list):
        return polygon_fault(segmentation)
    if isinstance(segmentation, dict):
        return rle_fault(segmentation, size)
    return f"a JSON {type(segmentation).__name__}"


def polygon_fault(polygons):
    """Return what is wrong with polygons, or None."""
    for polygon in polygons:
        if not isinstance(polygon, list) or not all(map(is_number, polygon)):
            return "a polygon that is not a list of numbers"
        if len(polygon) < 6 or len(polygon) % 2:
            return f"a polygon of {len(polygon)} numbers"
    return None


def rle_fault(rle, size):
    """Return what is wrong with an RLE, or None."""
    sides, counts = rle.get("size"), rle.get("counts")
    if not isinstance(sides, list) or len(sides) != 2 or not all(map(is_number, sides)):
        return "an RLE without a size [height, width]"
    if size is not None and sides != [size[1], size[0]]:
        return f"an RLE of {sides[0]} x {sides[1]} (height x width) in an image of {size[1]} x {size[0]}"
    # Not decoded by pycocotools, which returns uninitialized memory where runs are missing.
    runs = counts if isinstance(counts, list) else rle_runs(counts) if isinstance(counts, str) else None
    if runs is None or not all(is_number(run) and run >= 0 for run in runs):
        return "an RLE whose counts cannot be read"
    if sum(runs) != sides[0] * sides[1]:
        return f"an RLE of {sum(runs)} px for {sides[0]} x {sides[1]}"
    return None if sum(runs[1::2]) else "an RLE without a pixel"


def rle_runs(text):
    """Return the run lengths in a compressed COCO RLE string, or None if it is not valid.

    Each number is written with 5 bits per character, lowest bits first: character = 48 + bits, + 32 if more follow; the
    last one gives the sign. From the fourth number on, it is the difference to the number two before.
    """
    runs, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    return runs if shift == 0 else None


# --- all checks -------------------------------------------------------------------------------------------------------


def inspect(annotation, image_folder, classes=None, quick=False):
    """Return the result of `problems` and the number of entries in each table (table -> int)."""
    annotation, folder = Path(annotation), Path(image_folder)
    try:
        content = read(annotation)
    except ValueError as error:
        return [str(error)], dict.fromkeys(TABLES, 0)
    findings = Findings()
    check_tables(content, findings)
    check_categories(content, classes, findings)
    found = []
    if folder.is_dir():
        check_images(content, folder, quick, findings)
    else:
        found.append(f"{folder} is not a folder; download or unpack the images, or correct the path")
    check_annotations(content, findings)
    return found + list(findings.sentences(annotation)), {table: len(entries(content, table)) for table in TABLES}


def problems(annotation, image_folder, classes=None, quick=False):
    """Return one sentence for each kind of problem of a COCO-style data set; invalid content never raises.

    Args:
        annotation: path of the annotation file.
        image_folder: folder of its images.
        classes: class names of the config in their order; None for any.
        quick: do not decode the images.
    """
    return inspect(annotation, image_folder, classes, quick)[0]


def report(annotation, image_folder, classes, quick):
    """Print the problems of one pair and a summary; return the number of problems."""
    found, counts = inspect(annotation, image_folder, classes, quick)
    for sentence in found:
        print(sentence)
    size = ", ".join(f"{count} {table}" for table, count in counts.items())
    kinds = f"{len(found)} kind{'s' * (len(found) != 1)} of problem" if found else "no problem"
    print(f"{annotation} with {image_folder}: {size}; {kinds}")
    return len(found)


def main():
    parser = argparse.ArgumentParser(description="Report problems of a COCO-style data set.")
    parser.add_argument("annotation", nargs="?", metavar="ANNOTATION_JSON")
    parser.add_argument("images", nargs="?", metavar="IMAGE_FOLDER")
    parser.add_argument("--tree", metavar="FOLDER", help="check both standard pairs of a COCO folder such as data/coco")
    parser.add_argument("--classes", help="class names of the config, separated by commas")
    parser.add_argument("--quick", action="store_true", help="do not decode the images")
    args = parser.parse_args()
    if args.tree and args.annotation or not args.tree and not args.images:
        parser.error("give ANNOTATION_JSON and IMAGE_FOLDER, or --tree FOLDER")
    pairs = (
        [[Path(args.tree) / part for part in pair] for pair in TREE] if args.tree else [(args.annotation, args.images)]
    )
    classes = [name.strip() for name in args.classes.split(",")] if args.classes else None
    bad = sum(report(*pair, classes, args.quick) for pair in pairs)
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
