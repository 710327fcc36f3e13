"""Class names of a model."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine.config import Config
from mmengine.registry import DATASETS


def class_names(cfg: Config, checkpoint: object) -> tuple[str, ...]:
    """Return the class names of a model; () if they are unknown.

    They come from the config, else from the checkpoint (where training wrote them), else from the data set's class.
    """
    dataset = cfg.test_dataloader.dataset
    meta = checkpoint.get("meta") if isinstance(checkpoint, Mapping) else None
    meta = meta if isinstance(meta, Mapping) else {}
    imagenet = dataset.type == "CustomDataset" and "imagenet" in str(dataset.get("data_root"))
    kind = "mmpretrain.ImageNet" if imagenet else dataset.type
    # The root registry has no data sets; a name without a scope would be looked up there only.
    dataset_class = DATASETS.get(kind if "." in kind else f"{cfg.get('default_scope', 'mmengine')}.{kind}")
    # MMDetection 2 wrote CLASSES directly into meta, MMDetection 3 writes dataset_meta.
    for known in (dataset.get("metainfo"), meta.get("dataset_meta"), meta, getattr(dataset_class, "METAINFO", None)):
        classes = known.get("classes", known.get("CLASSES")) if isinstance(known, Mapping) else None
        if classes and not isinstance(classes, str):
            return tuple(map(str, classes))
    return ()
