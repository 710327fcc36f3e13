"""Annotation files and image folders against the config, before anything is built."""

import json
import os

from mmengine.registry import DATASETS, TRANSFORMS

from ...errors import DataError
from .class_folders import check_class_folders, class_folders_of
from .label_maps import check_label_maps

_NEEDED = {
    "images": {"id", "file_name"},
    "annotations": {"image_id", "category_id", "bbox"},
    "categories": {"id", "name"},
}


def check_datasets(cfg, splits=("train", "val")):
    """Check the data a config names. Returns sentences of advice; raises DataError, one sentence, for what cannot work.

    For every dataset of ``{split}_dataloader``: the annotation file and the folders of ``data_prefix`` exist. For
    COCO-format datasets also (mmdet's CocoDataset numbers labels by the categories it finds in the file, in the file's
    order, and skips annotations of other categories without a word): there are images and, for training, annotations
    left after that; every class of the config is in the file, in the file's order; annotations use listed categories;
    the heads' ``num_classes`` is the number of classes. For datasets of one folder per class: as many as the model has
    classes, with images in them, and the same in every split. For mmseg's data sets: the heads' and the
    pipeline's ``num_classes``, and ``label_maps.check_label_maps``.
    """
    advice = []
    folders = {}
    seen = set()
    for split in splits:
        loader = cfg.get(f"{split}_dataloader")
        for dataset in leaves((loader or {}).get("dataset")):
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
                folders[folder] = check_class_folders(folder, where, cfg.get("model"), folders)
            if ann_file and _reads_coco(cls):
                classes = (dataset.get("metainfo") or {}).get("classes") or cls.METAINFO.get("classes")
                content = read_coco(ann_file)
                advice += check_coco(content, ann_file, classes, where, training=split == "train")
                _check_heads(cfg.get("model"), classes, where)
                _check_images(dataset, content, ann_file, where)
            elif _reads_label_maps(cls) and _local(dataset, "images"):
                _check_segmentation(cfg, dataset, cls, where)
        _check_evaluators(cfg, split)
    return advice


def check_coco(content, ann_file, classes, where="the dataset", training=True):
    """Check the ``content`` of a COCO-format file against the config's ``classes``, see ``check_datasets``."""
    if isinstance(classes, str):
        raise DataError(f"{where}.metainfo.classes is the text {classes!r}: write a tuple, ({classes!r},)")
    classes = list(classes or [])
    names = {c.get("id"): c.get("name") for c in content["categories"]}
    absent = [c for c in classes if c not in names.values()]
    if absent:
        raise DataError(
            f"{_listed(absent)} of {where}.metainfo.classes {_are(absent)} not among the categories of {ann_file} "
            f"({_listed(list(names.values()))}), which would shift all labels: set metainfo=dict(classes=...) to the "
            "file's names"
        )
    kept = [i for i, name in names.items() if name in classes]
    if [names[i] for i in kept] != classes:
        raise DataError(
            f"{where}.metainfo.classes is not in the order of {ann_file}, whose order numbers the labels: "
            f"write ({_listed([names[i] for i in kept])})"
        )
    if not content["images"]:
        raise DataError(f"{ann_file} lists no images: {where} would be empty")
    counts = {}
    for annotation in content["annotations"]:
        counts[annotation.get("category_id")] = counts.get(annotation.get("category_id"), 0) + 1
    unlisted = sorted(str(i) for i in counts if i not in names)
    if unlisted:
        raise DataError(
            f"annotations of {ann_file} have category id {_listed(unlisted)}, which its categories do not list "
            f"({_listed([str(i) for i in names])}): they would be skipped, correct the file"
        )
    used = sum(n for i, n in counts.items() if i in kept)
    if not used and training:
        raise DataError(f"{ann_file} has no annotation of the {len(classes)} classes of {where}: nothing to train on")
    if not used:
        return [f"{ann_file} has no annotation of the {len(classes)} classes of {where}: no score can be computed"]
    if used < sum(counts.values()):
        others = [names[i] for i in counts if i not in kept]
        return [
            f"{sum(counts.values()) - used} annotations of {ann_file} are ignored: "
            f"{_listed(others)} {_are(others)} not among metainfo.classes"
        ]
    return []


def read_coco(ann_file):
    """The dict in a COCO-format annotation file. Raises DataError, one sentence, when it is something else."""
    try:
        with open(ann_file, encoding="utf-8") as f:
            content = json.load(f)
    except (OSError, ValueError) as error:
        raise DataError(f"annotation file {ann_file} is not JSON that can be read ({error})") from None
    lacking = [k for k in ("images", "annotations", "categories") if not isinstance(content, dict) or k not in content]
    if lacking == ["annotations"]:  # test sets without ground truth
        content["annotations"], lacking = [], []
    if lacking:
        raise DataError(f"annotation file {ann_file} has no {' and no '.join(lacking)}: it is not in COCO format")
    for part, needed in _NEEDED.items():
        entries = content[part]
        if not isinstance(entries, list) or not all(isinstance(e, dict) and needed <= e.keys() for e in entries):
            raise DataError(
                f"annotation file {ann_file} is not in COCO format: {part} must be a list of entries with "
                f"{' and '.join(sorted(needed))}"
            )
    return content


def leaves(dataset):
    """The datasets inside wrappers (RepeatDataset, ConcatDataset, ...)."""
    if isinstance(dataset, (list, tuple)):
        return [leaf for d in dataset for leaf in leaves(d)]
    if not isinstance(dataset, dict):
        return []
    inner = dataset.get("dataset") or dataset.get("datasets")
    return leaves(inner) if inner else [dataset]


def steps_of(pipeline):
    """All steps of a pipeline, those inside TestTimeAug among them."""
    for step in pipeline:
        if isinstance(step, (list, tuple)):
            yield from steps_of(step)
        else:
            yield step
            inner = step.get("transforms") or []
            yield from steps_of([inner] if isinstance(inner, dict) else inner)


def _local(dataset, path):
    """``path`` below data_root when both are on this machine's disk, else None."""
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
    for prefix in prefixes.values() if isinstance(prefixes, dict) else [prefixes]:
        folder = _local(dataset, prefix)
        if folder and not os.path.exists(folder):
            raise DataError(
                f"{where}.data_prefix {folder} does not exist: put the images there or set {where}.data_root "
                "(see data/README.md)"
            )


def _check_images(dataset, content, ann_file, where):
    """All of them: a missing one would end the training in the middle of an epoch."""
    folder = _local(dataset, (dataset.get("data_prefix") or {}).get("img") or "./")
    if folder is None:
        return
    listing = set(os.listdir(folder))  # one look instead of a hundred thousand
    names = [image["file_name"] for image in content["images"]]
    absent = [n for n in names if n not in listing and not os.path.exists(os.path.join(folder, n))]
    if absent:
        raise DataError(
            f"{len(absent)} of the {len(names)} images of {ann_file} are not in {folder} ({_listed(absent)}): "
            f"put them there or check {where}.data_prefix.img"
        )


def _check_segmentation(cfg, dataset, cls, where):
    pipeline = dataset.get("pipeline") or []
    with DATASETS.switch_scope_and_registry(cfg.get("default_scope")) as registry:
        built = registry.build(dict(dataset, pipeline=[], serialize_data=False))  # which fails for an empty set
    classes = built.metainfo.get("classes")
    if not classes:
        raise DataError(f"{where} names no classes: set metainfo=dict(classes=...)")
    _check_heads(cfg.get("model"), classes, where)
    _check_heads(pipeline, classes, where, f"{where}.pipeline")
    loader = next((step for step in steps_of(pipeline) if "Annotations" in str(step["type"])), None)
    if loader:  # none in a test set without ground truth
        with TRANSFORMS.switch_scope_and_registry(cfg.get("default_scope")) as registry:
            load = registry.build(loader)
        samples = [built.get_data_info(i) for i in range(len(built))]
        check_label_maps(samples, load, len(classes), where)


def _check_evaluators(cfg, split):
    """The evaluator's ground truth exists and is the one its images come with."""
    evaluators = cfg.get(f"{split}_evaluator") or []
    for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
        truth = evaluator.get("ann_file")
        if not isinstance(truth, str) or evaluator.get("backend_args") or "://" in truth:
            continue
        if not os.path.exists(truth):
            raise DataError(f"{split}_evaluator.ann_file {truth} does not exist: put it there or correct the path")
        parts = leaves((cfg.get(f"{split}_dataloader") or {}).get("dataset"))
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
    # Subclasses with a loader of their own (LVIS, panoptic) read the file by other rules.
    return getattr(getattr(cls, "load_data_list", None), "__qualname__", "") == "CocoDataset.load_data_list"


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
    for key, part in model.items():
        if key not in ("backbone", "neck", "rpn_head", "data_preprocessor", "train_cfg", "test_cfg"):
            _check_heads(part, classes, where, f"{path}.{key}")


def _listed(names):
    names = [str(n) for n in names]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _are(names):
    return "is" if len(names) == 1 else "are"
