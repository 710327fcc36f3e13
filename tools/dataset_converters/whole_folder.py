"""What the converters share: folders that appear whole or not at all, and the images they are made of."""

import os
import shutil
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

from PIL import Image, UnidentifiedImageError


def check_apart(source, out):
    """Raises ValueError when one of two folders lies in the other."""
    if source.is_relative_to(out) or out.is_relative_to(source):
        raise ValueError(f"{out} and {source} are one inside the other; give an output folder apart from the source")


def check_replaceable(out, overwrite):
    """Raises ValueError when ``out`` cannot become a new folder, or holds files that nobody said to replace."""
    if out.exists() and (not out.is_dir() or Path.cwd().is_relative_to(out)):
        raise ValueError(f"{out} is a file or the folder this runs in; give another output folder")
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise ValueError(f"{out} already holds other files; give another folder, or --overwrite to replace all of it")


def check_new(out):
    """Raises ValueError when there is something at ``out`` already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} already holds something; delete it or give another folder")


@contextmanager
def whole_folder(out):
    """A new folder beside ``out`` to write into; it takes the name ``out`` when the block ends well, else it goes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{uuid4().hex[:8]}.part")
    part.mkdir()
    try:
        yield part
        if out.exists():
            old = part.with_suffix(".old")
            out.rename(old)
            part.rename(out)
            shutil.rmtree(old)
        else:
            part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def link_or_copy(source, target):
    """Make ``target`` the file ``source``: a hard link where the disk allows it."""
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or a file system without hard links
        shutil.copy2(source, target)


def open_image(path):
    """The image at ``path``, decoded. Raises ValueError when it cannot be."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path} does not decode ({error}); unpack the data set again") from None


def check_files(paths, what):
    """Raises ValueError when one of ``paths`` is no file."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ValueError(
            f"{missing[0].parent} lacks {len(missing)} of {len(paths)} {what}, first {missing[0].name}; "
            "unpack the data set again"
        )


def check_pairs(pairs, what):
    """Raises ValueError when the second of a pair (image, label map) of paths is no file, or an image, by which they
    are sorted, is there with two suffixes. ``what`` the label maps are called."""
    check_files([labels for _, labels in pairs], what)
    for (a, _), (b, _) in pairwise(pairs):
        if a.stem == b.stem:
            raise ValueError(f"{a.parent} holds {a.stem} as more than one file; keep one of them")


def check_size(labels, what, photo):
    """Raises ValueError when an array is not of the size (h, w) of the image at a path; ``what`` it is, in words."""
    width, height = open_image(photo).size
    if labels.shape != (height, width):
        raise ValueError(
            f"{what} has shape {labels.shape}, but its image is {height} x {width} (height x width); "
            "unpack the data set again"
        )
