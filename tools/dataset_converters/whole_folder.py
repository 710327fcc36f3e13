"""What the converters share: folders that appear whole or not at all, and the pictures they are made of."""

import os
import shutil
from contextlib import contextmanager
from uuid import uuid4

from PIL import Image, UnidentifiedImageError


@contextmanager
def whole_folder(out):
    """A new folder beside ``out`` to write into; it takes the name ``out`` when the block ends well, else it goes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f'.{out.name}.{uuid4().hex[:8]}.part')
    part.mkdir()
    try:
        yield part
        if out.exists():
            old = part.with_suffix('.old')
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
    """The picture at ``path``, decoded. Raises ValueError when it cannot be."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f'{path} does not decode ({error}); unpack the data set again') from None
