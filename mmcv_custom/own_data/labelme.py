"""Read LabelMe's files: one JSON beside each image, with polygons and rectangles."""

from __future__ import annotations

from pathlib import Path

from ..data.image_files import natural
from ..errors import DataError
from .dataset import Objects, Picture, split
from .folders import Images, named_splits, split_of
from .label_files import files_with, finite, read_json
from .yolo import polygon


def labelme_files(root: Path) -> list[Path]:
    """Return LabelMe's files in ``root`` and its folders."""
    folders = [root, *sorted(p for p in root.iterdir() if p.is_dir())]
    files = [file for folder in folders for file in sorted(folder.glob("*.json"), key=natural)]
    return files_with(files, b'"shapes"', b'"imagePath"')


def read(root: Path, files: list[Path]) -> Objects:
    """Return what the LabelMe ``files`` below ``root`` hold.

    Raises:
        DataError: a file is not sound, or its image is missing; the sentence names the file.
    """
    images, found = Images(root), {}
    for file in files:
        content = read_json(file)
        shapes = content.get("shapes") if isinstance(content, dict) else None
        if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
            raise DataError(f"{file} has no list of shapes {{...}}: save it again")
        if not isinstance(content.get("imagePath"), str):
            raise DataError(f"{file} names no image: imagePath is {content.get('imagePath')!r}")
        path = images.find(content["imagePath"], [file.parent], file)
        found.setdefault(split_of(file.parent.name) or "all", []).append(
            Picture(path, [_object(shape, file) for shape in shapes])
        )
    notes: list[str] = []
    classes = sorted({o["category"] for pictures in found.values() for p in pictures for o in p.objects})
    whole = next(iter(found.values())) if len(found) == 1 else None
    return Objects("LabelMe", classes, split(whole, notes) if whole else named_splits(found, root), notes)


def _object(shape: dict, file: Path) -> dict:
    points, kind = shape.get("points") or [], shape.get("shape_type", "polygon")
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise DataError(f"{file}: the points of {shape.get('label')!r} are not pairs [x, y]: draw it again")
    points = [[finite(value, "a coordinate", file) for value in point] for point in points]
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        fields = dict(bbox=[min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)])
    elif kind == "polygon" and len(points) >= 3:
        fields = polygon([value for point in points for value in point])
    else:
        raise DataError(
            f"{file}: {shape.get('label')!r} is a {kind} of {len(points)} points; rectangles of two points and "
            "polygons of at least three are read: draw it again as one of them"
        )
    return dict(fields, category=str(shape.get("label")))
