"""Listing of local files for all data sets, without hidden folders."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mmengine.fileio import LocalBackend, register_backend

# Folders in which systems keep copies, besides those whose name begins with a dot.
_SYSTEM = {"__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is no data: ``.ipynb_checkpoints``, ``._1.png``, ``__MACOSX``."""
    return name.startswith(".") or name in _SYSTEM


@register_backend("local", force=True, prefixes="")
class VisibleFiles(LocalBackend):
    """MMEngine's local files without hidden folders, which data sets would take for classes or read images from."""

    def list_dir_or_file(self, dir_path: str | os.PathLike, *args, **options) -> Iterator[str]:
        """Yield what MMEngine lists, except hidden files and folders and what is in them."""
        for path in super().list_dir_or_file(dir_path, *args, **options):
            if not any(map(is_hidden, path.split(os.sep))):
                yield path
