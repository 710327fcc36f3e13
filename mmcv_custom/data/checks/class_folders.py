"""Checks of data sets with one folder per class against the config."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ...errors import DataError


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


def check_class_folders(folder: str, where: str, model: Mapping | None, others: Mapping[str, list[str]]) -> list[str]:
    """Check the class folders in ``folder`` and return their names.

    Args:
        folder: the folder that holds them.
        where: the place in the config that names it, for messages.
        model: the model's config; its ``backbone.num_classes`` must be the number of class folders.
        others: folder -> names of the other splits; the names must be the same, because they number the labels.

    Raises:
        DataError: there are none, all are empty, or they do not fit the model or the other splits.
    """
    if not os.path.isdir(folder):
        raise DataError(
            f"{where}: {folder} does not exist: put the data there or set {where}.data_root (see data/README.md)"
        )
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not names:
        raise DataError(
            f"{where}: {folder} has no class folders: put the images of every class into one of its own "
            "(see data/README.md)"
        )
    if not any(_holds_something(os.path.join(folder, name)) for name in names):
        raise DataError(
            f"{where}: the {len(names)} class folders of {folder} are empty: put the images there (see data/README.md)"
        )
    wanted = ((model or {}).get("backbone") or {}).get("num_classes")
    if isinstance(wanted, int) and wanted != len(names):
        raise DataError(
            f"{where}: {folder} has {len(names)} class folders and model.backbone.num_classes is {wanted}: "
            "make them equal"
        )
    for other, theirs in others.items():
        if theirs != names:
            single = sorted({*names} ^ {*theirs})[0]
            raise DataError(
                f"{where}: only one of {folder} and {other} has a class folder {single}, which would shift "
                "the labels: give both the same folders"
            )
    return names


def _holds_something(folder):
    with os.scandir(folder) as entries:
        return any(True for _ in entries)
