"""Write a file whole or not at all: a reader never meets half of it, and a failure or a kill leaves the old one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A name beside ``path``, with the same ending, for the body to write to; moved to ``path`` when the body is done
    and removed when it fails. For writers that take names only; others are served by ``write_file``."""
    path = Path(path)
    part = path.with_name(f".part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # or a power cut could leave the new name with nothing behind it
        os.replace(part, path)
    finally:
        if part.parent.is_dir():
            part.unlink(missing_ok=True)


def write_file(path: str | os.PathLike, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Write text (UTF-8), bytes, or what a function writes into an open binary file; the folder is made."""
    with replacing(path) as part, part.open("wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content.encode() if isinstance(content, str) else content)
