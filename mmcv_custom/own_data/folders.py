"""Find images, and the splits that names of files and folders stand for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from ..data.image_files import list_folder
from ..errors import DataError

# Names of splits as tools write them; a set to test serves where there is none to validate.
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


def split_of(name: str) -> str | None:
    """Return "train", "val" or "test" if a file or folder name says so, else None."""
    words = re.findall(r"[a-z]+", name.lower())
    return next((split for split, names in SPLITS.items() if any(word in names for word in words)), None)


def named_splits(found: dict[str, list], folder: Path) -> dict[str, list]:
    """Return the training and the validation part of what the splits ``found`` of a folder hold.

    Raises:
        DataError: there is nothing to train on, or the part to validate is empty.
    """
    parts = {"train": found.get("train") or [], "val": found.get("val") or found.get("test") or []}
    empty = next((name for name in parts if not parts[name]), None)
    if empty:
        raise DataError(
            f"{folder}: its {'training' if empty == 'train' else 'validation'} part holds no image: put images "
            "there, or move all of them into one folder, which is then split"
        )
    return parts


class Images:
    """The images below a folder, by name.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def by_name(self) -> dict[str, list[Path]]:
        """Return file name -> the images of that name."""
        found = defaultdict(list)
        for name in list_folder(self.root, deep=True)[0]:
            found[Path(name).name].append(self.root / name)
        return found

    def find(self, name: str, places: Sequence[Path], said_by: Path, split: str | None = None) -> Path:
        """Return the image that an annotation file calls ``name``.

        Args:
            name: a file name or a path, with / or \\ between folders.
            places: folders to look in first.
            said_by: the annotation file.
            split: the image is not looked for in folders of other splits; None for any.

        Raises:
            DataError: there is no such image, or several and none in ``places``.
        """
        name = name.replace("\\", "/")
        for place in places:
            with suppress(OSError):  # a name that no disk would take
                if (place / name).is_file():
                    return place / name
        found = [path for path in self.by_name.get(Path(name).name, []) if self._may_be(path, split)]
        if len(found) != 1:
            why = "several images have that name: give their folders in the file" if found else "it is not there"
            raise DataError(f"{said_by} names the image {name}, and below {self.root} {why}")
        return found[0]

    def _may_be(self, path: Path, split: str | None) -> bool:
        named = {split_of(part) for part in path.relative_to(self.root).parts[:-1]} - {None}
        return split is None or named <= {split}
