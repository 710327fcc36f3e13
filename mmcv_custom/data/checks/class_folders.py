"""Checks of data sets with one folder per class against the config."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence

from mmengine.dataset import Compose

from ...errors import DataError
from ..collate import check_sizes, sizes_of
from ..image_files import left_out_of, list_folder, loaded_size
from ..visible_files import is_hidden

CHECKED = 500  # images whose size is read before training, evenly spread; batching checks every one
LOADED = 8  # of them, images of different sizes that are loaded


def class_folders_of(cls: type | None, dataset: Mapping) -> str | None:
    """Return the folder, relative to data_root, whose subfolders are a data set's classes; None if it has none.

    Args:
        cls: class of the data set.
        dataset: config of the data set.
    """
    # Subclasses with a loader of their own follow other rules.
    loader = getattr(getattr(cls, "load_data_list", None), "__qualname__", "")
    if loader != "CustomDataset.load_data_list" or dataset.get("ann_file") or not dataset.get("with_label", True):
        return None
    split, prefix = dataset.get("split"), dataset.get("data_prefix")  # ImageNet's may name a split instead
    listed = split and os.path.join(dataset.get("data_root", ""), "meta", f"{split}.txt")
    if split == "test" or listed and os.path.exists(listed):
        return None
    return (next(iter(prefix.values())) if isinstance(prefix, dict) else prefix) or split or "./"


def suffixes_of(cls: type, dataset: Mapping) -> tuple[str, ...]:
    """Return the lower-case suffixes of the files that a data set of class folders takes.

    Args:
        cls: class of the data set.
        dataset: config of the data set.
    """
    taken = dataset.get("extensions") or getattr(cls, "IMG_EXTENSIONS", None)
    return tuple(suffix.lower() for suffix in taken or inspect.signature(cls).parameters["extensions"].default)


def check_class_folders(
    folder: str, where: str, model: Mapping | None, others: Mapping[str, list[str]], suffixes: Sequence[str]
) -> tuple[list[str], list[str], list[str]]:
    """Check the class folders in ``folder``; return their names, all images and sentences on what is left out.

    Args:
        folder: the folder that holds them.
        where: the place in the config that names it, for messages.
        model: the model's config; its ``backbone.num_classes`` must be the number of class folders.
        others: folder -> names of the other splits; the names must be the same, because they number the labels.
        suffixes: lower-case suffixes of the files that the data set takes.

    Raises:
        DataError: there are none, one holds files of other suffixes only, all are empty, or they do not fit the model
            or the other splits.
    """
    if not os.path.isdir(folder):
        raise DataError(
            f"{where}: {folder} does not exist: put the data there or set {where}.data_root (see data/README.md)"
        )
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    names = [entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name)]
    if not names:
        raise DataError(
            f"{where}: {folder} has no class folders: put the images of every class into one of its own "
            "(see data/README.md)"
        )
    left_out = [entry.name for entry in entries if entry.name not in names]
    found, empty = [], []
    for name in names:
        images, rest = list_folder(os.path.join(folder, name), suffixes, deep=True)
        shown = [file for file in rest if not any(map(is_hidden, file.split(os.sep)))]
        if not images and shown:
            raise DataError(
                f"{where}: class {name} would have no images, because none of the {len(shown)} files of "
                f"{os.path.join(folder, name)} ({_listed(shown)}) ends in {', '.join(suffixes)}: convert them, or "
                f"name their suffix in {where}.extensions"
            )
        if not images:
            empty.append(name)
        found += [os.path.join(folder, name, file) for file in images]
        left_out += [os.path.join(name, file) for file in rest]
    if len(empty) == len(names):
        raise DataError(
            f"{where}: the {len(names)} class folders of {folder} are empty: put the images there (see data/README.md)"
        )
    wanted = ((model or {}).get("backbone") or {}).get("num_classes")
    if isinstance(wanted, int) and wanted != len(names):
        raise DataError(
            f"{where}: {folder} has {len(names)} class folders and model.backbone.num_classes is {wanted}: "
            f"make them equal (the folders are {_listed(names)})"
        )
    for other, theirs in others.items():
        if theirs != names:
            single = sorted({*names} ^ {*theirs})[0]
            raise DataError(
                f"{where}: only one of {folder} and {other} has a class folder {single}, which would shift "
                "the labels: give both the same folders"
            )
    advice = [left_out_of(folder, left_out)] if left_out else []
    if empty:
        advice.append(f"{where}: no images of class {_listed(empty)} in {folder}: empty class folders")
    return names, found, advice


def check_batches(images: Sequence[str], transforms: Sequence[Callable[[dict], dict]], where: str) -> None:
    """Check that images which come in different sizes leave the pipeline in one, so that they can be stacked.

    The sizes of ``CHECKED`` images, evenly spread, are read, and ``LOADED`` of different sizes are loaded.

    Args:
        images: files.
        transforms: the pipeline, from loading to packing.
        where: the place in the config that names the data set, for messages.

    Raises:
        DataError: they leave it in different sizes.
    """
    step = max(1, len(images) / CHECKED)
    files = {loaded_size(path): path for path in (images[int(i * step)] for i in range(min(CHECKED, len(images))))}
    chosen = [path for _, path in sorted(files.items())]
    chosen = chosen[:: max(1, len(chosen) // LOADED)]
    samples = [Compose(transforms)(dict(img_path=path, gt_label=0)) for path in chosen] if len(chosen) > 1 else []
    check_sizes(sizes_of([sample for sample in samples if sample]), f"the pipeline of {where}")


def _listed(names):
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
