"""Read folders of images and label maps: class numbers, a palette, colours, or black and white."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..data.image_files import list_folder, natural
from ..errors import DataError
from .dataset import LabelMaps, split
from .folders import named_splits, split_of
from .label_files import read_text

MAPS = re.compile(r"label|mask|annot|segm|gt$|gtfine|^gt", re.IGNORECASE)  # what folders of label maps are called
TABLES = ("label_colors.txt", "label_colours.txt", "class_dict.csv", "labelmap.txt", "colors.txt", "colours.txt")
IGNORED = 255
MOST = 255  # classes
VOID = {"void", "ignore", "ignored", "unlabelled", "unlabeled", "background_ignore"}


def pairs_of(root: Path) -> dict[str, list[tuple[Path, Path]]]:
    """Return split, or "all", -> pairs (image, label map) of the folders below ``root`` that belong together.

    A folder of label maps is one whose name, or its parent's, says so (labels, masks, trainannot, SegmentationClass);
    its images are in the folder with the most images of the same names.
    """
    folders = {}
    for name in list_folder(root, deep=True)[0]:
        folders.setdefault((root / name).parent, {})[Path(name).stem] = root / name
    found: dict[str, list[tuple[Path, Path]]] = {}
    for folder, maps in sorted(folders.items()):
        own = folder.relative_to(root).parts
        if not any(MAPS.search(part) for part in own):
            continue
        others = {f: len(maps.keys() & files.keys()) for f, files in folders.items() if not _is_map(f, root)}
        best = max(others, key=others.get, default=None)
        if best is None or not others[best]:
            continue
        name = next((s for s in (split_of(part) for part in (*own, *best.relative_to(root).parts)) if s), None)
        name = name or next((s for part in own if (s := split_of(MAPS.sub(" ", part)))), "all")
        stems = sorted(maps.keys() & folders[best].keys(), key=natural)
        found.setdefault(name, []).extend((folders[best][stem], maps[stem]) for stem in stems)
    return found


def _is_map(folder: Path, root: Path) -> bool:
    return any(MAPS.search(part) for part in folder.relative_to(root).parts)


def read(
    root: Path,
    found: Mapping[str, list[tuple[Path, Path]]],
    classes: Sequence[str] | None = None,
    colours: Path | None = None,
) -> LabelMaps:
    """Return the images and label maps below ``root``.

    Args:
        root: the folder.
        found: what ``pairs_of`` found there.
        classes: names of the classes, in the order of their numbers; else those of the colour table, classes.txt, or
            class_0, class_1, ...
        colours: file with a colour table, a line "R G B name" or "name R G B" for each class.

    Raises:
        DataError: a split is empty, there are too many values, or a map has a colour that the table has not.
    """
    notes: list[str] = []
    parts = split(next(iter(found.values())), notes) if len(found) == 1 else named_splits(found, root)
    maps = [label for pairs in parts.values() for _, label in pairs]
    file = colours or next((root / name for name in TABLES if (root / name).is_file()), None)
    named = root / "classes.txt"
    if classes is None and named.is_file():
        classes = [line.strip() for line in read_text(named).splitlines() if line.strip()]
    form, names, table = _table(maps, file, notes)
    names = names or (list(classes) if classes else None)
    count = max(table.values()) + 1
    if names and len(names) < count:
        raise DataError(f"{root}: its label maps have {count} classes, and {len(names)} names are given")
    if not names:
        names = [f"class_{i}" for i in range(count)]
        notes.append("the classes have no names: give them with --classes or in classes.txt")
    return LabelMaps(f"images with {form}", names, parts, table, notes)


def _table(maps: Sequence[Path], file: Path | None, notes: list[str]) -> tuple[str, list[str] | None, dict]:
    """Return the kind of the label maps, the names of a colour table, and value or colour -> class number."""
    coloured = {path: _is_coloured(path) for path in maps}
    if len({*coloured.values()}) > 1:
        odd = next(path for path in maps if coloured[path] != coloured[maps[0]])
        raise DataError(f"{odd} and {maps[0]} differ: one has colours and one has one channel; save all in one way")
    if any(coloured.values()):
        if file is not None:
            colours = read_colours(file)
            names = [name for name in colours.values() if name.lower() not in VOID]
            return (
                "a colour table",
                names,
                {colour: names.index(name) for colour, name in colours.items() if name in names},
            )
        seen: set[tuple[int, int, int]] = set()
        for path in maps:
            seen |= {tuple(int(v) for v in colour) for colour in _colours(path)}
            if len(seen) > MOST:
                raise DataError(
                    f"{path}: the label maps have more than {MOST} colours: are they photographs, or saved as JPEG? "
                    "Label maps must be saved without loss"
                )
        notes.append("colours are classes in the order of their values: give a table with --colours to name them")
        return "colours", None, {colour: i for i, colour in enumerate(sorted(seen))}
    values: set[int] = set()
    for path in maps:
        values |= {int(value) for value in np.unique(_pixels(path))}
    if values == {0, IGNORED}:
        notes.append("label maps are black and white: 0 is class 0, 255 is class 1")
        return "black and white maps", None, {0: 0, IGNORED: 1}
    if max(values) > IGNORED:
        raise DataError(
            f"{maps[0]}: the label maps have values up to {max(values)}: 0 to 254 are classes, 255 is ignored"
        )
    if IGNORED in values:
        notes.append("value 255 of the label maps is ignored")
    kept = values - {IGNORED}
    if not kept:
        raise DataError(f"{maps[0]}: all label maps have the value 255 only, which is ignored")
    return "class numbers", None, {value: value for value in range(max(kept) + 1)}


def _is_coloured(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.mode not in ("L", "P", "1", "I", "I;16")
    except Exception as error:  # each decoder raises its own exceptions
        raise DataError(_unreadable(path, error)) from None


def _pixels(path: Path, mode: str | None = None) -> np.ndarray:
    """Return the values (h, w) of a label map, or with a ``mode`` of Pillow's what that makes of them.

    Raises:
        DataError: the file is broken.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode) if mode else image)
    except Exception as error:  # each decoder raises its own exceptions
        raise DataError(_unreadable(path, error)) from None


def _unreadable(path: Path, error: Exception) -> str:
    return f"{path} is no image that can be read ({' '.join(str(error).split())}): save it again"


def _colours(path: Path) -> np.ndarray:
    return np.unique(_pixels(path, "RGB").reshape(-1, 3), axis=0)


def read_colours(file: Path) -> dict[tuple[int, int, int], str]:
    """Return RGB colour -> name of a table of lines "R G B name" or "name R G B", with spaces, tabs or commas.

    Raises:
        DataError: the file is missing, or a line has no colour.
    """
    lines, found = read_text(file).splitlines(), {}
    for number, line in enumerate(lines, 1):
        words = next(csv.reader([line])) if "," in line else re.split(r"[\s:]+", line.strip())
        words = [word for text in words for word in text.replace(",", " ").split()] if words else []
        digits = [word for word in words if word.isdigit()]
        name = " ".join(word for word in words if not word.isdigit())
        if not words or line.lstrip().startswith("#") or (number == 1 and not digits):
            continue
        if len(digits) < 3 or not name or any(int(d) > 255 for d in digits[:3]):
            raise DataError(f"{file}, line {number}: {line.strip()!r} is no colour: write R G B name")
        found[tuple(int(d) for d in digits[:3])] = name
    if not found:
        raise DataError(f"colour table {file} is empty: a line R G B name for each class")
    return found


def numbered(path: Path, table: Mapping) -> np.ndarray:
    """Return the label map of a file with class numbers, 255 where it is ignored, (h, w) uint8.

    Raises:
        DataError: it has a value or colour between classes that ``table`` has not.
    """
    if isinstance(next(iter(table)), tuple):
        values = _pixels(path, "RGB").astype(np.int64) @ (65536, 256, 1)
        known = {(r << 16) + (g << 8) + b: number for (r, g, b), number in table.items()}
    else:
        values, known = _pixels(path).astype(np.int64), dict(table)
    result = np.full(values.shape, IGNORED, np.uint8)
    for value, number in known.items():
        result[values == value] = number
    return result
