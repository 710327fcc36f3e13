"""Read folders with the images of one class each."""

from __future__ import annotations

from pathlib import Path

from ..data.image_files import list_folder, natural
from ..data.visible_files import is_hidden
from ..errors import DataError
from .dataset import ClassFolders, split
from .folders import named_splits, split_of

OTHERS = ("images", "labels", "masks", "annotations", "jpegimages")


def subfolders(root: Path) -> list[Path]:
    """Return the folders in ``root`` that are not hidden, in natural order."""
    return sorted((p for p in root.iterdir() if p.is_dir() and not is_hidden(p.name)), key=lambda p: natural(p.name))


def candidates(root: Path) -> list[Path]:
    """Return the folders in ``root`` if they may be classes or splits; none if some are called as images and labels."""
    found = subfolders(root)
    return [] if any(folder.name.lower() in OTHERS for folder in found) else found


def read(root: Path, found: list[Path]) -> ClassFolders:
    """Return the images in the folders ``found`` of ``root``: one for each class, or train/ and val/ with such folders.

    Raises:
        DataError: a class has no image, or the splits differ in their classes.
    """
    notes: list[str] = []
    splits = {name: folder for folder in found if (name := split_of(folder.name)) and subfolders(folder)}
    folders = {name: subfolders(folder) for name, folder in splits.items()} or {"all": found}
    classes = [folder.name for folder in next(iter(folders.values()))]
    for name, own in folders.items():
        odd = sorted({folder.name for folder in own} ^ set(classes))
        if odd:
            raise DataError(f"{root / name}: its classes differ from {next(iter(splits))}'s: {', '.join(odd[:5])}")
    parts: dict[str, list[tuple[Path, int]]] = {}
    for name, own in folders.items():
        for label, folder in enumerate(own):
            items = [(folder / image, label) for image in list_folder(folder)[0]]
            if not items:
                raise DataError(f"{folder} holds no image: take it out, or put the images of that class there")
            divided = {name: items} if splits else split(items, notes, "images of each class")
            for part, images in divided.items():
                parts.setdefault(part, []).extend(images)
    return ClassFolders("class folders", classes, named_splits(parts, root) if splits else parts, notes)
