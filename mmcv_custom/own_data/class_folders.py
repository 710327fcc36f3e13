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


def are_in(root: Path) -> bool:
    """Return whether the folders in ``root`` may be classes: their names are not those of images and labels."""
    names = [folder.name.lower() for folder in subfolders(root)]
    return bool(names) and not any(name in OTHERS for name in names)


def read(root: Path) -> ClassFolders:
    """Return the images of ``root``: in a folder for each class, or in train/ and val/ with a folder for each class.

    Raises:
        DataError: a class has no image, or the splits differ in their classes.
    """
    notes: list[str] = []
    splits = {name: folder for folder in subfolders(root) if (name := split_of(folder.name)) and subfolders(folder)}
    folders = {name: {p.name: p for p in subfolders(folder)} for name, folder in splits.items()}
    folders = folders or {"all": {p.name: p for p in subfolders(root)}}
    classes = list(next(iter(folders.values())))
    for name, own in folders.items():
        odd = sorted(set(own) ^ set(classes))
        if odd:
            raise DataError(f"{root / name}: its classes differ from {next(iter(splits))}'s: {', '.join(odd[:5])}")
    found: dict[str, list[tuple[Path, int]]] = {"train": [], "val": []} if "all" in folders else {}
    for name, own in folders.items():
        for label, folder in enumerate(own.values()):
            items = [(folder / image, label) for image in list_folder(folder)[0]]
            if not items:
                raise DataError(f"{folder} holds no image: take it out, or put the images of that class there")
            for part, images in (
                split(items, notes, "images of each class") if name == "all" else {name: items}
            ).items():
                found.setdefault(part, []).extend(images)
    return ClassFolders("class folders", classes, found if "all" in folders else named_splits(found, root), notes)
