"""Read the folders of ultralytics' YOLO: data.yaml, images and one text file of boxes or polygons for each image."""

from __future__ import annotations

from pathlib import Path

from ..data.image_files import list_folder, loaded_size, natural
from ..errors import DataError
from .dataset import Objects, Picture, split
from .folders import named_splits
from .label_files import finite, read_text

FILES = ("data.yaml", "dataset.yaml", "data.yml")
SLACK = 1e-3  # that a coordinate may lie outside of the image, as a fraction


def yaml_of(root: Path) -> Path | None:
    """Return the file that describes the data set, or None."""
    return next((root / name for name in FILES if (root / name).is_file()), None)


def read(root: Path, file: Path) -> Objects:
    """Return what data.yaml, ``file``, and the label files of ``root`` hold.

    Raises:
        DataError: data.yaml or a label file is not sound; the sentence names the file and the line.
    """
    import yaml

    try:
        content = yaml.safe_load(read_text(file))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{file} is not YAML ({' '.join(str(error).split())})") from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names, key=natural)]
    if not names or not isinstance(names, list):
        raise DataError(f"{file} has no list of names: it needs names: [first class, second class, ...]")
    classes, notes, found = [str(name) for name in names], [], {}
    for key, split_name in (("train", "train"), ("val", "val"), ("valid", "val"), ("test", "test")):
        if content.get(key) and split_name not in found:
            texts = content[key] if isinstance(content[key], list) else [content[key]]
            images = [_images(root, content, str(text)) for text in texts]
            if None in images:
                if split_name != "test":
                    raise DataError(f"{file} says {key}: {content[key]}, and there is no such folder or list of images")
                continue
            found[split_name] = [_picture(image, classes) for part in images for image in part]
    if set(found) == {"train"} or (found.get("train") and content.get("train") == content.get("val")):
        return Objects("YOLO", classes, split(found["train"], notes), notes)
    return Objects("YOLO", classes, named_splits(found, root), notes)


def _images(root: Path, content: dict, text: str) -> list[Path] | None:
    """Return the images of a folder, or of a text file that lists them; None if it is not there."""
    # Exports write paths that start elsewhere (../train/images): what counts is the last part that exists here.
    base = root / str(content.get("path") or "")
    tail = Path(text.lstrip("./"))
    place = next(
        (p.resolve() for p in (base / text, root / text, root / tail, root / "images" / tail) if p.exists()), None
    )
    if place is None:
        return None
    if place.is_dir():
        return [place / name for name in list_folder(place, deep=True)[0]]
    lines = [line.strip() for line in read_text(place).splitlines() if line.strip()]
    images = [place.parent / line for line in lines]
    missing = next((image for image in images if not image.is_file()), None)
    if missing:
        raise DataError(f"{place} lists {missing}, and there is no such image")
    return images


def _picture(image: Path, classes: list[str]) -> Picture:
    parts = list(image.parts)
    at = max((i for i, part in enumerate(parts[:-1]) if part == "images"), default=None)
    if at is not None:
        parts[at] = "labels"
    labels = Path(*parts).with_suffix(".txt")
    picture = Picture(image)
    if not labels.is_file():  # an image without objects
        return picture
    lines = [line for line in read_text(labels).splitlines() if line.strip()]
    width, height = loaded_size(image) if lines else (0, 0)
    for number, line in enumerate(lines, 1):
        where = f"{labels}, line {number}"
        try:
            label, *values = (finite(word, "a value", where) for word in line.split())
        except DataError:
            raise DataError(f"{where} is {line.strip()[:60]!r}: it needs a class number and fractions") from None
        if label != int(label) or not 0 <= label < len(classes):
            raise DataError(f"{where} has class {label:g}, and data.yaml names {len(classes)}: 0 to {len(classes) - 1}")
        if any(not -SLACK <= value <= 1 + SLACK for value in values):
            raise DataError(
                f"{where} has a coordinate outside 0 to 1: they are fractions of the image's width and height"
            )
        picture.objects.append(dict(_shape(values, width, height, where), category=classes[int(label)]))
    return picture


def _shape(values: list[float], width: int, height: int, where: str) -> dict:
    """Return the box, and the polygon if there is one, in pixels."""
    if len(values) == 4:
        x, y, w, h = (value * size for value, size in zip(values, (width, height) * 2, strict=True))
        return dict(bbox=[x - w / 2, y - h / 2, w, h])
    if len(values) < 6 or len(values) % 2:
        raise DataError(
            f"{where} has {len(values)} coordinates: a box has 4 (centre, width, height), a polygon an x and a y for "
            "each of at least 3 points"
        )
    points = [value * (height if i % 2 else width) for i, value in enumerate(values)]
    return polygon(points)


def polygon(points: list[float]) -> dict:
    """Return the COCO fields of a polygon x1, y1, x2, y2, ... in pixels."""
    xs, ys = points[::2], points[1::2]
    return dict(bbox=[min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)], segmentation=[points])
