"""Datasets of one folder per class against the config, before anything is built."""

import os

from ...errors import DataError


def class_folders_of(cls, dataset):
    """The folder, below data_root, from whose folders' names a dataset takes its labels; None when it does not.

    ``cls`` is its class and ``dataset`` its config.
    """
    # Subclasses with a loader of their own read by other rules.
    loader = getattr(getattr(cls, "load_data_list", None), "__qualname__", "")
    if loader != "CustomDataset.load_data_list" or dataset.get("ann_file") or not dataset.get("with_label", True):
        return None
    split, prefix = dataset.get("split"), dataset.get("data_prefix")  # ImageNet's may name a split instead
    listed = split and os.path.join(dataset.get("data_root", ""), "meta", f"{split}.txt")
    if split == "test" or listed and os.path.exists(listed):
        return None
    return (next(iter(prefix.values())) if isinstance(prefix, dict) else prefix) or split or "./"


def check_class_folders(folder, where, model, others):
    """The names of the class folders in ``folder``, which ``where`` of the config names.

    Args:
        model: the model's config; its ``backbone.num_classes`` must be their number.
        others: of other splits, folder -> names, which must be the same: labels are numbered by them.

    Raises:
        DataError: there is none, they hold nothing, or they are not those of the model or of the other splits.
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
