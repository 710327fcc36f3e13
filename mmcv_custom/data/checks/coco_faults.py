"""Faults of COCO-format annotation files: one list of them for training, testing and tools/.../check_coco.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ..coco_file import TABLES, is_number
from .coco_masks import segmentation_fault

SLACK = 1.0  # px that a box may exceed the border, because annotation tools round

# What a fault means for a run.
REFUSED = "refused"  # the run would fail or give wrong results
COMPLETED = "completed"  # `coco_file.complete` mends it in memory
NOTED = "noted"  # worth a sentence
COUNTED = "counted"  # the annotation is skipped, see `coco_usage`
NO_SIZE = "images without a width and height"
DEGENERATE = "degenerate boxes"  # a kind that training skips and an evaluation does not


Size = tuple[int, int] | None  # (width, height) of an image, if the file says it


class Fault(NamedTuple):
    """One fault: its kind, where it is, what to do about the kind, and what it means for a run."""

    kind: str
    example: str
    cure: str
    effect: str = REFUSED


def coco_faults(content: dict, reads_mask: Callable[[dict, Size], object] = lambda *_: True) -> Iterator[Fault]:
    """Yield the faults in the content of a COCO-format file (``coco_file.read_coco``); nothing in it raises.

    Args:
        content: the file's content.
        reads_mask: whether the segmentation of an annotation, whose image has that size, is read.
    """
    for table in TABLES:
        yield from _table_faults(table, content[table])
    for name, count in Counter(str(c.get("name")) for c in entries(content, "categories")).items():
        if count > 1:
            yield Fault("category names that occur more than once", name, "give every category its own name")
    for entry in entries(content, "categories"):
        if not isinstance(entry.get("name"), str):
            yield Fault("categories without a name", f"id {entry.get('id')}", 'write "name" as text, in quotes')
    for entry in entries(content, "images"):
        yield from _image_faults(entry)
    yield from _annotation_faults(content, reads_mask)


def entries(content: dict, table: str) -> list[dict]:
    """Return the entries of a table that are objects; `coco_faults` tells of all others."""
    return [entry for entry in content[table] if isinstance(entry, dict)]


def key(value: object) -> object:
    """Return an id as a hashable value, whatever its type in the file."""
    return value if isinstance(value, (int, float, str)) else repr(value)


def image_sizes(content: dict) -> dict[object, Size]:
    """Return (width, height) of each image by its id, None where the file does not say it."""
    return {key(entry.get("id")): _size(entry) for entry in entries(content, "images")}


def _size(entry):
    size = entry.get("width"), entry.get("height")
    sound = all(isinstance(side, int) and not isinstance(side, bool) and 0 < side < 2**31 for side in size)
    return size if sound else None


def _table_faults(table, found):
    for index, entry in enumerate(found):
        if not isinstance(entry, dict) or "id" not in entry:
            yield Fault("entries without an id", f"{table}[{index}]", 'give every entry its own "id"')
        elif not (is_number(entry["id"]) or isinstance(entry["id"], str)):
            yield Fault(f'ids in "{table}" that are neither number nor text', f"{table}[{index}]", "number the entries")
    ids = [entry["id"] for entry in found if isinstance(entry, dict) and "id" in entry]
    for name, count in Counter(map(key, ids)).items():
        if count > 1:
            yield Fault(
                f'duplicate ids in "{table}"',
                f"{name} occurs {count} times",
                'give every entry its own "id"; of equal ids only one entry is read',
            )
    if table != "annotations" and len({isinstance(i, str) for i in ids}) > 1:
        text = next(i for i in ids if isinstance(i, str))
        yield Fault(f'"{table}" with ids of two types', f"number and text {text!r}", "write all as numbers")


def _image_faults(entry):
    if not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
        yield Fault("images without a file_name", f"id {entry.get('id')}", "add it to the annotation file")
    if _size(entry) is None:
        yield Fault(
            NO_SIZE,
            f"{entry.get('file_name')}: {entry.get('width')!r} x {entry.get('height')!r}",
            "add them to the annotation file, in px and as whole numbers",
        )


def _annotation_faults(content, reads_mask):
    sizes = image_sizes(content)
    categories = {key(entry.get("id")): entry.get("name") for entry in entries(content, "categories")}
    same = {"image_id": {str(name) for name in sizes}, "category_id": {str(name) for name in categories}}
    boxes = []
    for entry in entries(content, "annotations"):
        label = f"id {entry.get('id')}"
        image, category = key(entry.get("image_id")), key(entry.get("category_id"))
        for name, value, known in (("image_id", image, sizes), ("category_id", category, categories)):
            if value not in known and str(value) in same[name]:
                yield Fault(
                    f"annotations whose {name} is of another type than the id that it means",
                    f"{label}: {value!r}",
                    "write both as numbers, without quotes",
                )
        if image not in sizes and str(image) not in same["image_id"]:
            yield Fault(
                "annotations of an unknown image",
                f"{label}: image_id {image}",
                'add the image to "images" or remove the annotations',
                REFUSED if isinstance(entry.get("image_id", []), (list, dict)) else COUNTED,  # no key of a table
            )
        if category not in categories and str(category) not in same["category_id"]:
            yield Fault(
                "annotations of an unknown category",
                f"{label}: category_id {category}",
                f"its categories are {_listed(categories)}: add the category or remove the annotations",
            )
        faults = list(_value_faults(entry, label))
        yield from faults
        if all(fault.effect != REFUSED for fault in faults):
            boxes.append((label, entry["bbox"], sizes.get(image)))
            read = reads_mask(entry, sizes.get(image))
            fault = segmentation_fault(entry.get("segmentation"), sizes.get(image)) if read else None
            if fault:
                yield Fault(
                    "empty or invalid segmentations",
                    f"{label}: {fault}",
                    "create them again (lists of polygons of at least 3 points in px, or RLE); masks need them",
                )
    yield from _box_faults(boxes)


def _value_faults(entry, label):
    area, crowd, box = entry.get("area"), entry.get("iscrowd"), entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        yield Fault(
            "boxes that are not four numbers",
            f"{label}: {box!r}",
            'write "bbox" as [x, y, width, height] in px, without quotes',
        )
    if area is None:
        yield Fault(
            "annotations without an area",
            label,
            "the area of the box is used; add it in px, because evaluation groups objects by area",
            COMPLETED,
        )
    elif not is_number(area) or area < 0:
        yield Fault("areas that are no number of px", f"{label}: {area!r}", "write it as a number, without quotes")
    if crowd is None:
        yield Fault(
            "annotations without iscrowd", label, "0 is used; add it where other tools are to read it", COMPLETED
        )
    elif crowd not in (0, 1):
        yield Fault("values of iscrowd that are not 0 or 1", f"{label}: {crowd!r}", "write 0, or 1 for a crowd")


def _box_faults(boxes: Iterable) -> Iterator[Fault]:
    """Yield faults of ``boxes``, (label, [x, y, width, height], (width, height) of the image or None) each."""
    sized = [b for b in boxes if b[1][2] > 0 and b[1][3] > 0]
    normalised = bool(sized) and all(min(x, y) >= 0 and x + w <= 1 and y + h <= 1 for _, (x, y, w, h), _ in sized)
    outside = [b for b in sized if b[2] is not None and _leaves(b[1], b[2])]
    # Corners read as sizes reach outside for objects on the right and below: for most of them.
    corners = 2 * len(outside) > len(sized) and all(size and _are_corners(box, size) for _, box, size in sized)
    for label, (x, y, width, height), _ in boxes:
        if width <= 0 or height <= 0:
            yield Fault(
                DEGENERATE,
                f"{label}: {width:g} wide, {height:g} high",
                'remove them or give them a size ("bbox" is [x, y, width, height]); training skips them, and an '
                "evaluation counts them as objects that are never found",
                COUNTED,
            )
        elif normalised:
            yield Fault(
                "boxes between 0 and 1, as all of the file",
                f"{label}: {x:g}, {y:g}, {width:g}, {height:g}",
                "multiply them by the width and height of the image: boxes are in px",
            )
    for label, (x, y, width, height), size in outside:
        yield Fault(
            "boxes that reach outside the image",
            f"{label}: x {x:g}..{x + width:g}, y {y:g}..{y + height:g} in {size[0]} x {size[1]}",
            'write "bbox" as [x, y, width, height], not as two corners as it seems to be'
            if corners
            else 'clip them ("bbox" is [x, y, width, height], not two corners)',
            REFUSED if corners else NOTED,
        )


def _leaves(box, size):
    x, y, width, height = box
    return min(x, y) < -SLACK or x + width > size[0] + SLACK or y + height > size[1] + SLACK


def _are_corners(box, size):
    left, top, right, bottom = box
    return 0 <= left < right <= size[0] + SLACK and 0 <= top < bottom <= size[1] + SLACK


def _listed(categories):
    names = [f"{i} ({name})" for i, name in categories.items()]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
