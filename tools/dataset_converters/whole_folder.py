"""Folders that appear whole or not at all: what the converters write into."""

import shutil
from contextlib import contextmanager
from uuid import uuid4


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
