"""Writing files whole or not at all, and what is said when a disk is full.

A reader never sees a partly written file, and a failure or a kill leaves the old one.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import DiskFullError, chain

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the user's quota, the limit of a file's size


@contextmanager
def replacing(path: str | os.PathLike, needed: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, with the same suffix, and move it to ``path`` after the body.

    It is removed if the body fails. For writers that only take names; ``write_file`` serves the others.

    Args:
        path: the file to write.
        needed: its size in bytes, if it is known beforehand; for the message when the disk is full.

    Raises:
        DiskFullError: there is no space for the file.
    """
    path = Path(path)
    rank = os.environ.get("RANK", "0")  # processes of one run may write the same file at once
    part = path.with_name(f".part{'' if rank == '0' else rank}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # otherwise a power cut could leave an empty file under the new name
        os.replace(part, path)
    except Exception as error:
        if not out_of_space(error) or isinstance(error, DiskFullError):
            raise
        written = part.stat().st_size if part.exists() else 0
        size = f"{in_words(needed)} needed" if needed else f"more than {in_words(written)} needed"
        part.unlink(missing_ok=True)  # before the free space is counted
        raise DiskFullError(
            f"{path} cannot be written: no space is left on its disk or in its quota ({size}, "
            f"{in_words(free_space(path.parent))} free)"
            + (", and the file from before is kept" if path.exists() else "")
            + ": delete something there or name another folder, and run this again"
        ) from error
    finally:
        if part.parent.is_dir():
            part.unlink(missing_ok=True)


def write_file(path: str | os.PathLike, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Write text (UTF-8), bytes, or what a function writes into an open binary file; missing folders are created.

    Raises:
        DiskFullError: there is no space for the file.
    """
    content = content.encode() if isinstance(content, str) else content
    needed = None if callable(content) else len(content)
    with replacing(path, needed) as part, part.open("wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content)


def out_of_space(error: BaseException | None) -> bool:
    """Return whether an exception, or one that it was raised from or during, says that a disk or a quota is full."""
    return any(isinstance(e, DiskFullError) or isinstance(e, OSError) and e.errno in _FULL for e in chain(error))


def free_space(folder: str | os.PathLike) -> int:
    """Return the free bytes on the disk of ``folder``, or of its nearest parent that exists."""
    folder = Path(folder).resolve()
    return shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free


def in_words(size: float) -> str:
    """Return a number of bytes with a unit: "1.5 MB"."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        del units[0]
    return f"{size:.0f} {units[0]}" if units[0] == "bytes" else f"{size:.1f} {units[0]}"
