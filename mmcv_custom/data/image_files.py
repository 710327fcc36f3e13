"""Images outside of data sets: the files of a folder, and the test pipeline that loads them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from itertools import count, zip_longest
from pathlib import Path

from mmengine.config import Config

from ..errors import ConfigError, DataError
from .misread_files import late_exif
from .visible_files import is_hidden

# What LoadImageFromFile reads.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif"),
    *(".jp2", ".ppm", ".pgm", ".pbm"),
)


def pipeline_steps(cfg: Config) -> list[dict]:
    """Return the config's test pipeline, from loading to packing, without the steps that read annotations.

    Raises:
        ConfigError: there is no test pipeline, or it is empty.
    """
    try:
        pipeline = cfg.test_dataloader.dataset.pipeline
    except AttributeError:
        raise ConfigError(
            f"config {cfg.filename} has no test_dataloader.dataset.pipeline: nothing says how an image becomes an input"
        ) from None
    steps = [step for step in pipeline if "Annotations" not in step["type"]]
    if not steps:
        raise ConfigError(
            f"config {cfg.filename} has an empty test_dataloader.dataset.pipeline: nothing says how an "
            "image becomes an input"
        )
    return steps


def list_folder(
    folder: str | Path, suffixes: Sequence[str] = SUFFIXES, deep: bool = False
) -> tuple[list[str], list[str]]:
    """Return the images of a folder and all that is left out, as relative names in natural order (1, 2, 10).

    Left out are hidden files and folders, files with other suffixes and, unless ``deep``, subfolders.

    Args:
        folder: the folder.
        suffixes: lower-case suffixes of images.
        deep: also list subfolders.
    """
    images, left_out = [], []
    for entry in os.scandir(folder):
        is_folder = entry.is_dir()
        if is_folder and deep and not is_hidden(entry.name):
            inner = list_folder(entry.path, suffixes, deep)
            images += [os.path.join(entry.name, name) for name in inner[0]]
            left_out += [os.path.join(entry.name, name) for name in inner[1]]
        elif is_folder:
            left_out.append(entry.name + os.sep)
        elif entry.name.lower().endswith(tuple(suffixes)) and not is_hidden(entry.name) and entry.is_file():
            images.append(entry.name)
        else:
            left_out.append(entry.name)
    return sorted(images, key=natural), sorted(left_out, key=natural)


def images_in(folder: Path, say: Callable[[str], object] | None = None) -> list[Path]:
    """Return the images of a folder in natural order; if it has none, those of its subfolders, one of each in turn.

    Args:
        folder: the folder.
        say: is called with a sentence that names what is left out.
    """
    names, left_out = list_folder(folder)
    if not names:
        inner = [name for name in left_out if name.endswith(os.sep) and not is_hidden(name.rstrip(os.sep))]
        left_out = [name for name in left_out if name not in inner]
        columns = []
        for subfolder in inner:
            images, others = list_folder(folder / subfolder)
            columns.append([subfolder + name for name in images])
            left_out += [subfolder + name for name in others]
        names = [name for line in zip_longest(*columns) for name in line if name]
    if left_out and say:
        say(left_out_of(folder, left_out))
    return [folder / name for name in names]


def left_out_of(folder: str | Path, names: Sequence[str], why: str = "hidden or no image that is read") -> str:
    """Return the sentence that ``names`` are left out of ``folder``."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"left out of {folder}, because {why}: {', '.join(names[:5])}{more}"


def natural(name: str | Path) -> tuple[list[str | int], str]:
    """Return the key that sorts names as people count: 1, 2, 10."""
    parts = re.split(r"([0-9]+)", str(name))
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], str(name)


def unique_names(names: Sequence[str]) -> list[str]:
    """Return ``names`` with a number behind those that an earlier one has, so that output files differ.

    Names that differ in case only count as equal, because on some disks they are one file.
    """
    taken, seen, unique = {name.casefold() for name in names}, set(), []
    for name in names:
        new = name
        if name.casefold() in seen:
            new = next(f"{name}_{i}" for i in count(2) if f"{name}_{i}".casefold() not in taken)
            taken.add(new.casefold())
        seen.add(name.casefold())
        unique.append(new)
    return unique


def loaded_size(path: str | Path) -> tuple[int, int]:
    """Return (width, height) of an image as ``LoadImageFromFile`` gives it, from the file's header.

    The loader turns JPEG and PNG files by their EXIF orientation, and no others.

    Raises:
        DataError: the file is missing or is no image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            (width, height), turnable = image.size, image.format in ("JPEG", "MPO", "PNG")
            if turnable and _orientation(image) in (5, 6, 7, 8):
                return height, width
            return width, height
    except FileNotFoundError:
        raise DataError(f"image {path} does not exist: check the path") from None
    except Exception as error:  # each decoder raises its own exceptions
        raise DataError(_unreadable(path, error)) from None


def _orientation(image):
    from PIL import Image

    exif = Image.Exif()  # Image.getexif would also read XMP, which the loader does not
    try:
        exif.load(image.info.get("exif") or (late_exif(image.fp) if image.format == "PNG" else b""))
    except Exception:  # a broken block, which the loader skips
        return None
    return exif.get(0x112)


def reason_unread(path: str | Path) -> str | None:
    """Return why a sound image is one that the loader does not read, in words; None if that is not known."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode in ("I", "F"):
                return f"its pixels are numbers of 32 bits (mode {image.mode}) and 8 or 16 bits are read"
    except Exception:  # each decoder raises its own exceptions
        pass
    return None


def _unreadable(path, error):
    # What Pillow did not expect, it says in Python's words.
    why = "its header is damaged" if isinstance(error, (ValueError, TypeError, LookupError)) else str(error)
    return f"{path} is no image that can be read ({' '.join(why.split())}): save it again or take it out"


def check_image(path: str) -> None:
    """Raise DataError if a file is missing, is not an image, or is truncated.

    Some decoders fill the rest of a truncated image with grey.
    """
    from PIL import Image

    if not Path(path).exists():
        raise DataError(f"image {path} does not exist: check the path")
    if Path(path).is_dir():
        raise DataError(f"{path} is a folder where an image is wanted")
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # each decoder raises its own exceptions
        raise DataError(_unreadable(path, error)) from None
