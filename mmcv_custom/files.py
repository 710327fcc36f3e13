"""Writing files whole or not at all.

A reader never sees a partly written file, and a failure or a kill leaves the old one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, with the same suffix, and move it to ``path`` after the body.

    It is removed if the body fails. For writers that only take names; ``write_file`` serves the others.
    """
    path = Path(path)
    part = path.with_name(f".part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # otherwise a power cut could leave an empty file under the new name
        os.replace(part, path)
    finally:
        if part.parent.is_dir():
            part.unlink(missing_ok=True)


def write_file(path: str | os.PathLike, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Write text (UTF-8), bytes, or what a function writes into an open binary file; missing folders are created."""
    with replacing(path) as part, part.open("wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content.encode() if isinstance(content, str) else content)
