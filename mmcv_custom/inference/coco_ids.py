"""Numbers of images and categories in an annotation file, for results that are evaluated against it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ..data.coco_file import read_coco
from ..errors import DataError


class CocoIds:
    """Image and category ids of a COCO-format annotation file.

    Args:
        path: the annotation file.

    Raises:
        DataError: it cannot be read, or an image or category has no name or no number as id.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = path
        content = read_coco(path)
        self._images: dict[str, list[tuple[str, int]]] = defaultdict(list)  # by the name without folders
        for name, number in self._numbered(content["images"], "file_name"):
            self._images[Path(name).name].append((name, number))
        self._categories = dict(self._numbered(content["categories"], "name"))

    def _numbered(self, entries, key):
        for entry in entries:
            name, number = (entry.get(key), entry.get("id")) if isinstance(entry, dict) else (None, None)
            if not isinstance(name, str) or not isinstance(number, int):
                raise DataError(
                    f"annotation file {self.path} has the entry {str(entry)[:80]}, without a {key} or a whole number "
                    "as id: tools/dataset_converters/check_coco.py tells all such faults"
                )
            yield name, number

    def image(self, path: str | os.PathLike) -> int:
        """Return the id of an image file: by its name with the folders in the annotation file, else by its name alone.

        Raises:
            DataError: there is no such image, or several.
        """
        named = self._images.get(Path(path).name, [])
        whole = Path(path).resolve().as_posix()
        fitting = [name for name, _ in named if whole.endswith("/" + name.removeprefix("./"))]
        wanted = max(fitting, key=len, default=None)
        found = [number for name, number in named if wanted is None or name == wanted]
        if len(found) != 1:
            what = "lists no image of that name" if not found else f"lists {len(found)} images of that name"
            raise DataError(f"image {path} has no id: annotation file {self.path} {what}")
        return found[0]

    def categories(self, classes: Sequence[str]) -> list[int]:
        """Return the category ids of a model's classes, by their names.

        Raises:
            DataError: the file lacks a class, or the names of the classes are not known.
        """
        if not classes:
            raise DataError(f"the names of the model's classes are unknown, so that {self.path} cannot number them")
        lacking = [name for name in classes if name not in self._categories]
        if lacking:
            more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
            raise DataError(
                f"annotation file {self.path} has no category {', '.join(lacking[:5])}{more}, which the model finds: "
                "give a file with the model's classes"
            )
        return [self._categories[name] for name in classes]
