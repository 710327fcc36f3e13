"""Counting of the annotations that a data set uses, by the rule of mmdet's loader and of the COCO evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from .coco_faults import image_sizes, key


class Usage(NamedTuple):
    """Numbers of annotations by class name: the used ones, and the skipped ones by reason."""

    used: Counter
    skipped: dict[str, Counter]
    training: bool

    def sentence(self) -> str:
        """Say the numbers, with classes wherever something is skipped."""
        skipped = sum(sum(counts.values()) for counts in self.skipped.values())
        used = sum(self.used.values())
        total = f"{used} of {used + skipped} annotations are {'learned' if self.training else 'evaluated'}"
        if not skipped:
            return total
        reasons = [f"{sum(c.values())} {reason} ({_by_class(c)})" for reason, c in self.skipped.items()]
        return f"{total}{f' ({_by_class(self.used)})' if used else ''}; skipped: {', '.join(reasons)}"


def coco_usage(content: dict, classes: Collection[str], training: bool, min_size: int = 0) -> Usage:
    """Return which annotations of a sound file (``coco_faults``) a data set of ``classes`` uses.

    Training skips what mmdet's CocoDataset skips and takes crowds for regions to leave alone; evaluation leaves out
    crowds and other classes only.

    Args:
        content: the file's content, completed (``coco_file.complete``).
        classes: the class names of the data set.
        training: whether it is trained on, or evaluated.
        min_size: shortest side in px of the images that are trained on.
    """
    names = {category["id"]: category["name"] for category in content["categories"]}
    sizes = image_sizes(content)
    usage = Usage(Counter(), {}, training)
    for annotation in content["annotations"]:
        name, size = names[annotation["category_id"]], sizes.get(key(annotation["image_id"]))
        why = skipped_because(annotation, size, name in classes, training, min_size)
        if not why and annotation["iscrowd"]:
            why = "that are crowds (iscrowd 1)"
        counts = usage.skipped.setdefault(why, Counter()) if why else usage.used
        counts[name] += 1
    return usage


def skipped_because(
    annotation: dict, size: tuple[int, int] | None, known: bool, training: bool, min_size: int
) -> str | None:
    """Return why an annotation is not read at all, or None; the order is that of the loader.

    Args:
        annotation: an entry of the file whose box, and area if there is one, are sound.
        size: (width, height) of its image, None if the file does not list that.
        known: whether its category is among the classes.
        training: whether it is trained on, or evaluated.
        min_size: shortest side in px of the images that are trained on.
    """
    if size is None:
        return "of images that the file does not list"
    if not known:
        return "of categories that are not among metainfo.classes"
    if training:
        x, y, width, height = annotation["bbox"]
        if min(size) < min_size:
            return f"in images below filter_cfg.min_size {min_size}"
        if annotation.get("ignore"):
            return 'marked "ignore"'
        if min(x + width, size[0]) <= max(x, 0) or min(y + height, size[1]) <= max(y, 0):
            return "with boxes outside their images"
        if width < 1 or height < 1:
            return "with boxes below 1 px"
        if annotation.get("area") is not None and annotation["area"] <= 0:
            return "of area 0"
    return None


def _by_class(counts):
    told = [f"{name} {count}" for name, count in counts.most_common(10)]
    return ", ".join(told) + (f" and {len(counts) - 10} more classes" if len(counts) > 10 else "")
