"""Read annotations in XML: Pascal VOC's file for each image, and CVAT's file for all of them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from ..data.image_files import loaded_size, natural
from ..errors import DataError
from .dataset import Objects, Picture, split
from .folders import Images, named_splits, split_of
from .label_files import finite, read_text
from .yolo import polygon

CVAT = "annotations.xml"


def xml_files(root: Path) -> list[Path]:
    """Return VOC's files, in ``root``, its Annotations, or its folders of splits."""
    folders = [root, root / "Annotations", *sorted(p for p in root.iterdir() if p.is_dir() and split_of(p.name))]
    return sorted(
        (f for d in folders if d.is_dir() for f in d.glob("*.xml") if f.name != CVAT and f.is_file()), key=natural
    )


def cvat_file(root: Path) -> Path | None:
    """Return CVAT's file in ``root``, or None."""
    return root / CVAT if (root / CVAT).is_file() else None


def read_voc(root: Path, files: list[Path]) -> Objects:
    """Return what the VOC ``files`` of ``root`` hold. Boxes count pixels from 1; objects marked difficult are ignored.

    Raises:
        DataError: a file is not sound or its image is missing; the sentence names the file.
    """
    images, found = Images(root), {}
    for file in files:
        picture = _voc_picture(file, _parse(file), images, root)
        found.setdefault(file.parent.name, []).append((file.stem, picture))
    classes = sorted({o["category"] for items in found.values() for _, p in items for o in p.objects})
    notes, form = [], "Pascal VOC"
    lists = {name: root / f"ImageSets/Main/{name}.txt" for name in ("train", "val", "test")}
    if any(split_of(name) for name in found):
        parts = {split_of(name) or "train": [p for _, p in items] for name, items in found.items()}
        whole = parts["train"] if set(parts) == {"train"} else None
        return Objects(form, classes, split(whole, notes) if whole else named_splits(parts, root), notes)
    all_of = dict(item for items in found.values() for item in items)
    if lists["train"].is_file():
        parts = {
            name: [_named(all_of, stem, file) for stem in _stems(file)]
            for name, file in lists.items()
            if file.is_file()
        }
        return Objects(form, classes, named_splits(parts, root), notes)
    return Objects(form, classes, split(list(all_of.values()), notes), notes)


def read_cvat(root: Path, file: Path) -> Objects:
    """Return what CVAT's ``file`` (annotations.xml, for images) in ``root`` holds: boxes and polygons.

    Raises:
        DataError: the file is not sound, an image is missing, or an object is neither a box nor a polygon.
    """
    images, pictures = Images(root), []
    for image in _parse(file).iter("image"):
        path = images.find(image.get("name", ""), [root, root / "images"], file)
        objects = []
        for shape in image:
            if shape.tag == "box":
                left, top, right, bottom = (finite(shape.get(key), key, file) for key in ("xtl", "ytl", "xbr", "ybr"))
                fields = dict(bbox=[left, top, right - left, bottom - top])
            elif shape.tag == "polygon":
                pairs = [point.split(",") for point in shape.get("points", "").split(";")]
                if len(pairs) < 3 or any(len(pair) != 2 for pair in pairs):
                    raise DataError(
                        f"{file}: a polygon of {image.get('name')} has {len(pairs)} points; it needs at least 3, x,y "
                        "each"
                    )
                fields = polygon([finite(value, "points", file) for pair in pairs for value in pair])
            elif shape.tag == "tag":
                continue
            else:
                raise DataError(
                    f"{file}: {image.get('name')} has a {shape.tag}, and boxes and polygons are read: export the "
                    "project from CVAT as COCO 1.0"
                )
            if not shape.get("label"):
                raise DataError(f"{file}: a {shape.tag} of {image.get('name')} has no label")
            objects.append(dict(fields, category=shape.get("label")))
        pictures.append(Picture(path, objects))
    notes: list[str] = []
    classes = sorted({o["category"] for p in pictures for o in p.objects})
    return Objects("CVAT", classes, split(sorted(pictures, key=lambda p: natural(p.file.name)), notes), notes)


def _parse(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the latter two: its encoding
        raise DataError(f"{file} is not XML ({error}): export it again") from None


def _voc_picture(file: Path, tree: ElementTree.Element, images: Images, root: Path) -> Picture:
    name = tree.findtext("filename") or f"{file.stem}.jpg"
    path = images.find(name, [file.parent, root / "JPEGImages", root / "images"], file)
    width, height = loaded_size(path)
    said = [tree.findtext(f"size/{key}") for key in ("width", "height")]
    if all(said) and [finite(text, "the size", file) for text in said] not in ([width, height], [0, 0]):
        raise DataError(
            f"{file} says {said[0]} x {said[1]} pixels, and {path} has {width} x {height}: correct one of them"
        )
    objects = []
    for item in tree.iter("object"):
        corners = [finite(item.findtext(f"bndbox/{key}"), key, file) for key in ("xmin", "ymin", "xmax", "ymax")]
        left, top = (max(value - 1, 0) for value in corners[:2])
        if corners[2] <= left or corners[3] <= top:
            raise DataError(f"{file}: a box has xmin, ymin, xmax, ymax {corners}, which is empty")
        label = (item.findtext("name") or "").strip()
        if not label:
            raise DataError(f"{file}: an object has no name")
        box = [left, top, corners[2] - left, corners[3] - top]
        objects.append(dict(bbox=box, category=label, iscrowd=int(item.findtext("difficult") == "1")))
    return Picture(path, objects)


def _stems(file: Path) -> list[str]:
    return [line.split()[0] for line in read_text(file).splitlines() if line.strip()]


def _named(pictures: dict[str, Picture], stem: str, file: Path) -> Picture:
    if stem not in pictures:
        raise DataError(f"{file} names {stem}, and there is no {stem}.xml")
    return pictures[stem]
