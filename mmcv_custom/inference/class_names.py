"""What a model's classes are called."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine.config import Config
from mmengine.registry import DATASETS


def class_names(cfg: Config, checkpoint: object) -> tuple[str, ...]:
    """The config's names, else those that training wrote into the checkpoint, else the data set's own; () if none
    tells."""
    dataset = cfg.test_dataloader.dataset
    meta = checkpoint.get("meta") if isinstance(checkpoint, Mapping) else None
    meta = meta if isinstance(meta, Mapping) else {}
    imagenet = dataset.type == "CustomDataset" and "imagenet" in str(dataset.get("data_root"))
    kind = "mmpretrain.ImageNet" if imagenet else dataset.type
    # The root has no data sets, and looks nowhere else for a name without its toolbox.
    own = DATASETS.get(kind if "." in kind else f"{cfg.get('default_scope', 'mmengine')}.{kind}")
    # MMDetection 2 wrote CLASSES beside dataset_meta's place.
    for known in (dataset.get("metainfo"), meta.get("dataset_meta"), meta, getattr(own, "METAINFO", None)):
        classes = known.get("classes", known.get("CLASSES")) if isinstance(known, Mapping) else None
        if classes and not isinstance(classes, str):
            return tuple(map(str, classes))
    return ()
