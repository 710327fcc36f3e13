"""Checks of every data set and evaluator that a config names, before anything is built."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS

from ...errors import DataError, building_from_config
from .class_folders import check_batches, check_class_folders, class_folders_of, suffixes_of
from .coco import check_coco, check_coco_images
from .label_maps import check_label_maps, images_left_out


def check_datasets(cfg: Config, splits: Sequence[str] = ("train", "val")) -> list[str]:
    """Check the data sets that a config names and return sentences of advice.

    For every data set of ``{split}_dataloader``, the annotation file and the folders of ``data_prefix`` must exist.
    Then, by format:

    - COCO: the file is sound (``coco_faults``); every class of the config is in it, in its order, because mmdet's
      CocoDataset numbers labels by the categories in the file and skips annotations of others; there are images and
      annotations that count (``coco_usage``); the heads' ``num_classes`` is the number of classes; all images exist
      and have the sizes that the file says.
    - One folder per class: as many as the model has classes, with images in them, the same in every split.
    - mmseg's data sets: the heads' and the pipeline's ``num_classes``, and ``label_maps.check_label_maps``.

    Raises:
        DataError: something that cannot work.
        ConfigError: a data set or its annotation loader that cannot be built as written.
    """
    advice = []
    folders = {}
    seen = set()
    for split in splits:
        loader = cfg.get(f"{split}_dataloader")
        for dataset in leaf_datasets((loader or {}).get("dataset")):
            where = f"{split}_dataloader.dataset"
            ann_file = _local(dataset, dataset.get("ann_file"))
            place = str((dataset.get("data_root"), dataset.get("data_prefix")))
            identity = (split == "train", ann_file, str(dataset.get("metainfo")), place)
            if identity in seen:
                continue
            seen.add(identity)
            _check_paths(where, dataset, ann_file)
            cls = _dataset_class(cfg, dataset.get("type"))
            folder = _local(dataset, class_folders_of(cls, dataset))
            if folder:
                suffixes = suffixes_of(cls, dataset)
                folders[folder], images, left_out = check_class_folders(
                    folder, where, cfg.get("model"), folders, suffixes
                )
                advice += left_out
                if loader.get("batch_size", 1) > 1 and "default_collate" in str(loader.get("collate_fn")):
                    check_batches(images, _built(cfg, dataset.get("pipeline") or []), where)
            if ann_file and _reads_coco(cls):
                classes = (dataset.get("metainfo") or {}).get("classes") or cls.METAINFO.get("classes")
                masks = _reads_masks(dataset.get("pipeline") or [], cfg.get(f"{split}_evaluator"))
                smallest = 0 if dataset.get("test_mode") else (dataset.get("filter_cfg") or {}).get("min_size", 0)
                content, told = check_coco(ann_file, classes, where, split == "train", masks, smallest)
                advice += told
                _check_heads(cfg.get("model"), classes, where)
                images = _local(dataset, (dataset.get("data_prefix") or {}).get("img") or "./")
                if images:
                    check_coco_images(content, ann_file, images, where)
            elif ann_file and getattr(cls, "METAINFO", {}).get("stuff_classes"):
                classes = (dataset.get("metainfo") or {}).get("classes") or cls.METAINFO["classes"]
                _check_heads(cfg.get("model"), classes, where)
            elif _reads_label_maps(cls) and _local(dataset, "images"):
                advice += _check_segmentation(cfg, dataset, where, split == "train")
        _check_evaluators(cfg, split)
    return advice


def leaf_datasets(dataset: dict | Sequence | None) -> list[dict]:
    """Return the data sets inside wrappers (RepeatDataset, ConcatDataset, ...)."""
    if isinstance(dataset, (list, tuple)):
        return [leaf for inner in dataset for leaf in leaf_datasets(inner)]
    if not isinstance(dataset, dict):
        return []
    inner = dataset.get("dataset") or dataset.get("datasets")
    return leaf_datasets(inner) if inner else [dataset]


def steps_of(pipeline: Sequence) -> Iterator[dict]:
    """Iterate over all steps of a pipeline, including those inside TestTimeAug."""
    for step in pipeline:
        if isinstance(step, (list, tuple)):
            yield from steps_of(step)
        else:
            yield step
            inner = step.get("transforms") or []
            yield from steps_of([inner] if isinstance(inner, dict) else inner)


def _local(dataset, path):
    """Join ``path`` to data_root; return None unless both are on this machine's disk."""
    root = dataset.get("data_root") or ""
    if not isinstance(path, str) or not path or dataset.get("backend_args") or "://" in root + path:
        return None
    return os.path.join(root, path)


def _check_paths(where, dataset, ann_file):
    if ann_file and not os.path.exists(ann_file):
        raise DataError(
            f"{where}.ann_file {ann_file} does not exist: put the data there or set {where}.data_root "
            "(see data/README.md)"
        )
    prefixes = dataset.get("data_prefix")
    for name, prefix in prefixes.items() if isinstance(prefixes, dict) else [("img", prefixes)]:
        folder = _local(dataset, prefix)
        if folder and not os.path.exists(folder):
            what = "label maps" if "seg" in name else "images"
            raise DataError(
                f"{where}.data_prefix {folder} does not exist: put the {what} there or set {where}.data_root "
                "(see data/README.md)"
            )


def _check_segmentation(cfg, dataset, where, training):
    pipeline = dataset.get("pipeline") or []
    with building_from_config(), DATASETS.switch_scope_and_registry(cfg.get("default_scope")) as registry:
        built = registry.build(dict(dataset, pipeline=[], serialize_data=False))  # fails for an empty set
    classes = built.metainfo.get("classes")
    if not classes:
        raise DataError(f"{where} names no classes: set metainfo=dict(classes=...)")
    _check_heads(cfg.get("model"), classes, where)
    _check_heads(pipeline, classes, where, f"{where}.pipeline")
    samples = [built.get_data_info(i) for i in range(len(built))]
    folder = None if built.ann_file and os.path.isfile(built.ann_file) else built.data_prefix.get("img_path")
    advice = images_left_out(samples, folder, built.img_suffix) if folder and not dataset.get("indices") else []
    loader = next((step for step in steps_of(pipeline) if "Annotations" in str(step["type"])), None)
    if loader:  # none in a test set without ground truth
        (load,) = _built(cfg, [loader])
        advice += check_label_maps(samples, load, classes, where, training)
    return advice


def _built(cfg, steps):
    with building_from_config(), TRANSFORMS.switch_scope_and_registry(cfg.get("default_scope")) as registry:
        return [registry.build(step) for step in steps]


def _check_evaluators(cfg, split):
    """Check that the evaluator's ground truth exists and is the annotation file of the data loader."""
    evaluators = cfg.get(f"{split}_evaluator") or []
    for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
        truth = evaluator.get("ann_file")
        if not isinstance(truth, str) or evaluator.get("backend_args") or "://" in truth:
            continue
        if not os.path.exists(truth):
            raise DataError(f"{split}_evaluator.ann_file {truth} does not exist: put it there or correct the path")
        parts = leaf_datasets((cfg.get(f"{split}_dataloader") or {}).get("dataset"))
        images = [_local(part, part.get("ann_file")) for part in parts]
        if images and all(p and os.path.exists(p) and not os.path.samefile(p, truth) for p in images):
            raise DataError(
                f"{split}_evaluator.ann_file {truth} is not the {split}_dataloader's {images[0]}: set both alike"
            )


def _dataset_class(cfg, kind):
    if not isinstance(kind, str):
        return kind
    with DATASETS.switch_scope_and_registry(cfg.get("default_scope")) as registry:
        return registry.get(kind)


def _reads_coco(cls):
    # Subclasses with a loader (LVIS) or an index (panoptic segments) of their own read the file by other rules.
    index = getattr(getattr(cls, "COCOAPI", None), "__name__", "")
    loads = getattr(getattr(cls, "load_data_list", None), "__qualname__", "")
    return loads == "CocoDataset.load_data_list" and index != "COCOPanoptic"


def _reads_masks(pipeline, evaluators):
    evaluators = evaluators if isinstance(evaluators, (list, tuple)) else [evaluators or {}]
    return any(step.get("with_mask") for step in steps_of(pipeline)) or any(
        "segm" in (e.get("metric") or ()) for e in evaluators
    )


def _reads_label_maps(cls):
    return any(base.__name__ == "BaseSegDataset" for base in getattr(cls, "__mro__", ()))


def _check_heads(model, classes, where, path="model"):
    if isinstance(model, (list, tuple)):
        for i, part in enumerate(model):
            _check_heads(part, classes, where, f"{path}[{i}]")
    if not isinstance(model, dict):
        return
    number = model.get("num_classes")
    if isinstance(number, int) and number != len(classes):
        raise DataError(f"{path}.num_classes is {number} and {where} has {len(classes)} classes: make them equal")
    things, stuff = model.get("num_things_classes"), model.get("num_stuff_classes")
    if isinstance(things, int) and isinstance(stuff, int) and things + stuff != len(classes):
        raise DataError(
            f"{path} has {things} classes of things and {stuff} of stuff and {where} has {len(classes)} classes: "
            "make the sum equal"
        )
    for key, part in model.items():
        if key not in ("backbone", "neck", "rpn_head", "data_preprocessor", "train_cfg", "test_cfg"):
            _check_heads(part, classes, where, f"{path}.{key}")
