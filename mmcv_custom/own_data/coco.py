"""Read COCO files: one, one for each split, or Roboflow's export with a file in each folder of images."""

from __future__ import annotations

from pathlib import Path

from ..data.checks.coco_faults import NO_SIZE, REFUSED, coco_faults
from ..data.checks.findings import Findings
from ..data.coco_file import complete, read_coco
from ..data.image_files import natural
from ..errors import DataError
from .dataset import Objects, Picture, split
from .folders import Images, named_splits, split_of
from .label_files import files_with

ROBOFLOW = "_annotations.coco.json"


def coco_files(root: Path) -> list[Path]:
    """Return the JSON files in ``root``, its folder ``annotations`` and its folders of splits that may be COCO's."""
    folders = [root, root / "annotations", *sorted(p for p in root.iterdir() if p.is_dir() and split_of(p.name))]
    found = [file for folder in folders if folder.is_dir() for file in sorted(folder.glob("*.json"))]
    return files_with(found, b'"images"', b'"categories"')


def read(root: Path, files: list[Path]) -> Objects:
    """Return what the COCO ``files`` below ``root`` hold.

    Raises:
        DataError: a file is not sound, names an image that is missing, or differs from another in its categories.
    """
    of_split = {}
    for file in files:
        name = split_of(file.parent.name if file.name == ROBOFLOW else file.stem) or "all"
        if name in of_split:
            raise DataError(
                f"{file} and {of_split[name]} are both {'without a split in their names' if name == 'all' else name}: "
                "leave one, or name them train and val"
            )
        of_split[name] = file
    images, notes, parts, classes, first = Images(root), [], {}, None, None
    for name, file in of_split.items():
        own, pictures = _pictures(file, name, root, images)
        if classes is not None and set(own) != set(classes):
            odd = sorted(set(own) ^ set(classes))
            raise DataError(f"{file} has other categories than {first}: {', '.join(odd[:5])} in one of them only")
        classes, first = classes or own, first or file
        parts[name] = pictures
    kept = _used(classes, parts, notes)
    whole = parts["all"] if set(parts) == {"all"} else parts.get("train") if set(parts) == {"train"} else None
    splits = split(whole, notes) if whole else named_splits(parts, root)
    form = "Roboflow's COCO export" if any(f.name == ROBOFLOW for f in files) else "COCO"
    return Objects(form, kept, splits, notes)


def _pictures(file: Path, name: str, root: Path, images: Images) -> tuple[list[str], list[Picture]]:
    content = read_coco(file)
    _check(content, file)
    names = {}
    for category in content["categories"]:
        if "id" not in category or not str(category.get("name", "")):
            raise DataError(f"{file} has a category without id or name: {category}")
        names[category["id"]] = str(category["name"])
    if len({*names.values()}) < len(names):
        raise DataError(f"{file} has two categories of one name: rename one")
    by_image = {image["id"]: [] for image in content["images"]}
    for annotation in complete(content)["annotations"]:
        if annotation.get("image_id") not in by_image:
            raise DataError(
                f"{file}: annotation {annotation['id']} is of image {annotation.get('image_id')}, unknown there"
            )
        if annotation.get("category_id") not in names:
            raise DataError(
                f"{file}: annotation {annotation['id']} has category {annotation.get('category_id')}, unknown there"
            )
        fields = {key: annotation[key] for key in ("bbox", "segmentation", "area", "iscrowd") if key in annotation}
        by_image[annotation["image_id"]].append(dict(fields, category=names[annotation["category_id"]]))
    inside = [root / "images" / folder.name for folder in root.glob("images/*") if split_of(folder.name) == name]
    places = [file.parent, root, *inside, root / file.stem, root / "images"]
    pictures = [
        Picture(images.find(image["file_name"], places, file, None if name == "all" else name), by_image[image["id"]])
        for image in content["images"]
    ]
    return list(names.values()), sorted(pictures, key=lambda p: natural(p.file.name))


def _check(content: dict, file: Path) -> None:
    """Raise DataError for what cannot be read; sizes are the images' own, and ids of annotations are not needed."""
    findings = Findings()
    for fault in coco_faults(content, lambda entry, size: entry.get("segmentation")):
        needless = fault.kind == NO_SIZE or fault.example.startswith("annotations[")
        if fault.effect == REFUSED and not needless:
            findings.add(*fault[:3])
    if not all(isinstance(annotation, dict) for annotation in content["annotations"]):
        raise DataError(f"{file} has annotations that are no objects {{...}}: create it again")
    for sentence in findings.sentences(file):
        raise DataError(sentence)


def _used(classes: list[str], parts: dict[str, list[Picture]], notes: list[str]) -> list[str]:
    """Return the categories that have an object; Roboflow's first one is the name of the project."""
    used = {o["category"] for pictures in parts.values() for p in pictures for o in p.objects}
    unused = [name for name in classes if name not in used]
    if unused and used:
        notes.append(f"left out, because no object has it: category {', '.join(unused)}")
    return [name for name in classes if name in used] or classes
