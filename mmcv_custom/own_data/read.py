"""Find out what a folder of images and labels is, and read it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..errors import ConfigError, DataError
from . import class_folders, coco, label_maps, labelme, xml_files, yolo
from .dataset import ClassFolders, LabelMaps, Objects

TASKS = ("detect", "segment", "classify")
KNOWN = (
    "COCO json, Roboflow's COCO export, YOLO (data.yaml), Pascal VOC, CVAT or LabelMe for detection; images and label "
    "maps (folders called labels, masks or the like) for segmentation; one folder for each class for classification"
)


def read_folder(
    root: str | Path, task: str | None = None, classes: Sequence[str] | None = None, colours: str | Path | None = None
) -> Objects | LabelMaps | ClassFolders:
    """Return the images and labels of a folder, split into "train" and "val".

    Args:
        root: the folder.
        task: "detect", "segment" or "classify"; None: what the folder has.
        classes: names of the classes of label maps.
        colours: colour table of label maps.

    Raises:
        ConfigError: the task is unknown.
        DataError: the folder is missing, is none of the known kinds, or is not sound.
    """
    root = Path(root).expanduser().resolve()
    if task not in (None, *TASKS):
        raise ConfigError(f"task {task!r}: choose one of {', '.join(TASKS)}")
    if not root.is_dir():
        raise DataError(f"{root} is no folder: give the folder that holds your images and labels")
    readers = []
    if task in (None, "detect"):
        readers += [
            (coco.coco_files, coco.read),
            (yolo.yaml_of, yolo.read),
            (xml_files.cvat_file, xml_files.read_cvat),
            (xml_files.xml_files, xml_files.read_voc),
            (labelme.labelme_files, labelme.read),
        ]
    if task in (None, "segment"):
        options = dict(classes=classes, colours=colours and Path(colours))
        readers.append((label_maps.pairs_of, partial(label_maps.read, **options)))
    if task in (None, "classify"):
        readers.append((class_folders.candidates, class_folders.read))
    for find, read in readers:
        if found := find(root):
            return _sound(read(root, found), root)
    raise DataError(f"{root} holds nothing that is known{f' for task {task}' if task else ''}: {KNOWN}")


def _sound(data: Objects | LabelMaps | ClassFolders, root: Path) -> Objects | LabelMaps | ClassFolders:
    if len(data.classes) < (1 if data.task == "detect" else 2):
        raise DataError(f"{root}: it has {len(data.classes)} classes, too few to learn anything")
    empty = next((name for name in ("train", "val") if not data.splits[name]), None)
    if empty:
        raise DataError(f"{root}: no image is left for {empty}: it needs at least two images")
    if isinstance(data, Objects) and not any(p.objects for p in data.splits["train"]):
        raise DataError(f"{root}: no training image has an object: check that labels and images belong together")
    return data
