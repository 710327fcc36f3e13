"""Write the configs that train and evaluate on a folder of own images: a dense model and a pruned one."""

from __future__ import annotations

import os
import pprint
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from token_pruning.reducer import METHODS, find_method

from ..data.image_files import loaded_size
from ..errors import ConfigError, DataError
from ..files import replacing, write_file
from ..results import write_json
from ..shipped import CONFIGS
from .dataset import ClassFolders, LabelMaps, Objects
from .label_maps import numbered

DIGITS = CONFIGS / "quickstart/weights/digits_vit-adapter-t.safetensors"
# Settings of the methods that are recommended for a first try; other methods start at their own defaults.
REDUCERS = {
    "SViT": dict(
        blocks=[2, 3, 4, 5, 6, 7, 8, 9, 10, 11], keep_ratio=[0.5] * 4 + [0.3] * 3 + [0.2] * 3, ratio_loss_weight=4.0
    ),
    "ToMe": dict(r=0.066),
}
METHOD = {"detect": "SViT", "segment": "ToMe", "classify": "ToMe"}
SIDE = {"detect": 640, "segment": 512, "classify": 224}  # of the images, in pixels
EPOCHS = {"detect": (12, 4), "segment": (30, 10), "classify": (10, 4)}  # of the dense and of the pruned training
BATCH = {"detect": 2, "segment": 4, "classify": 32}
RATE = {"detect": 2e-4, "segment": 2e-4, "classify": 1e-4}
PATCH = 14  # of the classifier's ViT, which timm builds with DINOv2's patches
SIZES = {"detect": ("t", "s"), "segment": ("s",), "classify": ("s",)}


@dataclass
class Choices:
    """What can be chosen; None is replaced by the task's default when the configs are written.

    Attributes:
        method: name of a reducer.
        size: of the ViT, "t" (detection, from the digit detector of this project) or "s" (from DINOv2).
        weights: file of a ViT-S from DINOv2, needed by size "s".
        side: short side of the images in pixels.
        epochs: of the dense and of the pruned training.
        batch: images of a training step.
    """

    method: str | None = None
    size: str | None = None
    weights: str | None = None
    side: int | None = None
    epochs: Sequence[int | None] = (None, None)
    batch: int | None = None
    workers: int = field(default_factory=lambda: min(4, max(1, (os.cpu_count() or 2) - 1)))

    def filled(self, task: str) -> Choices:
        """Return the choices with the defaults of ``task``.

        Raises:
            ConfigError: a choice is out of range.
        """
        method = self.method or METHOD[task]
        known = {name.lower(): name for name in METHODS}
        if method.lower() not in known:
            raise ConfigError(f"--method {method}: choose one of {', '.join(sorted(known))}")
        size = self.size or SIZES[task][0]
        if size not in SIZES[task]:
            raise ConfigError(f"--size {size}: for this task choose {' or '.join(SIZES[task])}")
        side, batch = self.side or SIDE[task], self.batch or BATCH[task]
        if side < 64 or batch < 1 or any(n is not None and n < 1 for n in self.epochs):
            raise ConfigError("the image size must be at least 64, the batch and the epochs at least 1")
        if task == "classify" and side % PATCH:
            raise ConfigError(f"the image size {side} must be a multiple of {PATCH}, the size of a patch")
        epochs = tuple(own or default for own, default in zip(self.epochs, EPOCHS[task], strict=True))
        return Choices(known[method.lower()], size, self.weights, side, epochs, batch, self.workers)


def write_configs(data: Objects | LabelMaps | ClassFolders, folder: str | Path, choices: Choices) -> dict[str, Path]:
    """Write the labels in the toolbox's form and two configs into ``folder``, and return their paths.

    Args:
        data: what ``read_folder`` found.
        folder: the work dir; labels go to its folder ``labels``, images stay where they are.
        choices: see ``Choices``.

    Returns:
        "dense" and "pruned" -> config file. The pruned one starts from the dense training's last checkpoint.

    Raises:
        ConfigError: a choice is out of range.
        DataError: a label map does not fit its image.
    """
    folder, choices = Path(folder).resolve(), choices.filled(data.task)
    labels = folder / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    settings = {"detect": _detection, "segment": _segmentation, "classify": _classification}[data.task](
        data, labels, choices
    )
    reducer = dict(type=choices.method, **REDUCERS.get(choices.method, {}))
    if choices.method == "SViT" and data.task == "detect":
        reducer["training"] = "packed"
    dense, pruned = choices.epochs
    steps = -(-len(data.splits["train"]) // choices.batch)
    settings |= _schedule(RATE[data.task], dense, steps)
    tuned = dict(
        model=dict(backbone=dict(reducer=reducer)),
        load_from=str(folder / f"dense/epoch_{dense}.pth"),
        **_schedule(RATE[data.task] / 2, pruned, steps),
    )
    if find_method(choices.method).needs_training:
        tuned["optim_wrapper"]["paramwise_cfg"] = dict(custom_keys=dict(reducer=dict(lr_mult=5.0)))
    if "init_cfg" in settings["model"].get("backbone", {}):
        tuned["model"]["backbone"]["init_cfg"] = None  # all weights come from the dense training
    paths = {name: folder / f"{name}.py" for name in ("dense", "pruned")}
    write_file(paths["dense"], _text(f"Dense model on {data.form}: {len(data.classes)} classes.", settings))
    write_file(
        paths["pruned"], _text("The pruned model, fine-tuned from the dense one.", {"_base_": "./dense.py", **tuned})
    )
    return paths


def _text(comment: str, settings: Mapping[str, object]) -> str:
    lines = [f"# {comment}"]
    for name, value in settings.items():
        shown = f"{name} = {pprint.pformat(value, width=100, sort_dicts=False)}"
        lines.append(shown)
    return "\n".join(lines) + "\n"


def _bases(*names: str) -> list[str]:
    return [str(CONFIGS / "_base_" / f"{name}.py") for name in names]


def _schedule(rate: float, epochs: int, steps: int) -> dict:
    warm_up = max(1, min(50, steps * epochs // 10))
    return dict(
        optim_wrapper=dict(optimizer=dict(lr=rate)),
        param_scheduler=[
            dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warm_up),
            dict(
                type="CosineAnnealingLR", by_epoch=True, begin=0, end=epochs, eta_min=1e-6, convert_to_iter_based=True
            ),
        ],
        train_cfg=dict(max_epochs=epochs, val_interval=epochs),
        default_hooks=dict(checkpoint=dict(interval=epochs), logger=dict(interval=10)),
    )


def _detection(data: Objects, labels: Path, choices: Choices) -> dict:
    small, classes = choices.size == "s", tuple(data.classes)
    paths = {name: labels / f"{name}.json" for name in data.splits}
    for name, path in paths.items():
        write_json(path, coco_content(data, name))
    load = dict(type="LoadAnnotations", with_bbox=True, with_mask=data.masks)
    sides = [(2 * choices.side, int(choices.side * part)) for part in (0.7, 0.8, 0.9, 1.0)]
    train = [
        dict(type="LoadImageFromFile"),
        load,
        dict(type="RandomFlip", prob=0.5),
        dict(type="RandomChoiceResize", scales=sides, keep_ratio=True),
        dict(type="PackDetInputs"),
    ]
    test = [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=sides[-1], keep_ratio=True),
        load,
        dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
    ]

    def dataset(name: str, pipeline: list) -> dict:
        return dict(
            data_root="", metainfo=dict(classes=classes), ann_file=str(paths[name]), data_prefix=dict(img=""),
            pipeline=pipeline,
        )  # fmt: skip

    heads: dict = dict(bbox_head=dict(num_classes=len(classes)), mask_head=dict(num_classes=len(classes)))
    model: dict = dict(roi_head=heads)
    if not data.masks:
        model = dict(type="PrunedFasterRCNN", roi_head=dict(heads, mask_roi_extractor=None, mask_head=None))
    if small:
        norm = dict(type="GN", num_groups=32)
        model["backbone"] = dict(
            img_size=choices.side, embed_dim=384, num_heads=6, layer_scale=True, norm_cfg=norm,
            init_cfg=dict(type="Pretrained", checkpoint=choices.weights),
        )  # fmt: skip
        model["neck"] = dict(in_channels=[384] * 4, norm_cfg=norm)
        if data.masks:
            heads["mask_head"]["norm_cfg"] = norm
    base = "models/mask_rcnn_vit_adapter" if small else "models/mask_rcnn_vit_adapter_light"
    val = dict(batch_size=1, num_workers=choices.workers, dataset=dataset("val", test))
    metric = dict(ann_file=str(paths["val"]), metric=["bbox", "segm"] if data.masks else ["bbox"])
    return dict(
        _base_=_bases(base, "datasets/digit_scenes", "schedules/recipe_from_scratch", "runtimes/runtime"),
        model=model,
        **({} if small else dict(load_from=str(DIGITS))),
        train_dataloader=dict(batch_size=choices.batch, num_workers=choices.workers, dataset=dataset("train", train)),
        val_dataloader=val,
        test_dataloader=val,
        val_evaluator=metric,
        test_evaluator=metric,
        auto_scale_lr=dict(base_batch_size=choices.batch),
    )


def coco_content(data: Objects, name: str) -> dict:
    """Return one split in COCO's form; file names are absolute paths."""
    numbers = {category: i for i, category in enumerate(data.classes, 1)}
    images, annotations = [], []
    for number, picture in enumerate(data.splits[name], 1):
        width, height = loaded_size(picture.file)
        images.append(dict(id=number, file_name=str(picture.file), width=width, height=height))
        for item in picture.objects:
            if item["category"] not in numbers:
                continue
            fields = {key: value for key, value in item.items() if key not in ("category", "segmentation")}
            if data.masks:
                fields["segmentation"] = item["segmentation"]
            x, y, w, h = fields["bbox"]
            left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
            if right <= left or bottom <= top:
                raise DataError(
                    f"{picture.file}: a box ({x:g}, {y:g}, {w:g}, {h:g}) lies outside of the image or is empty"
                )
            fields |= dict(bbox=[left, top, right - left, bottom - top])
            annotations.append(
                dict(id=len(annotations) + 1, image_id=number, category_id=numbers[item["category"]], iscrowd=0)
                | dict(area=(right - left) * (bottom - top))
                | {key: value for key, value in fields.items() if value is not None}
            )
    categories = [dict(id=i, name=category) for category, i in numbers.items()]
    return dict(images=images, annotations=annotations, categories=categories)


def _segmentation(data: LabelMaps, labels: Path, choices: Choices) -> dict:
    for name, pairs in data.splits.items():
        _write_maps(data, name, pairs, labels)
    load = dict(type="LoadAnnotations", num_classes=len(data.classes))
    scale = (4 * choices.side, choices.side)
    train = [
        dict(type="LoadImageFromFile"),
        load,
        dict(type="RandomResize", scale=scale, ratio_range=(0.75, 1.5), keep_ratio=True),
        dict(type="RandomCrop", crop_size=(choices.side, choices.side), cat_max_ratio=0.75),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PhotoMetricDistortion"),
        dict(type="PackSegInputs"),
    ]
    test = [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=scale, keep_ratio=True),
        load,
        dict(type="PackSegInputs"),
    ]
    colours = np.random.RandomState(0).randint(0, 256, (len(data.classes), 3)).tolist()
    meta = dict(classes=tuple(data.classes), palette=colours)

    def dataset(name: str, pipeline: list) -> dict:
        return dict(
            data_root="", metainfo=meta, img_suffix=_suffix(data), pipeline=pipeline,
            data_prefix=dict(img_path=str(labels / f"images_{name}"), seg_map_path=str(labels / f"maps_{name}")),
        )  # fmt: skip

    val = dict(num_workers=choices.workers, persistent_workers=False, dataset=dataset("val", test))
    return dict(
        _base_=_bases(
            "models/linear_vit",
            "datasets/segmentation",
            "schedules/recipe_from_scratch",
            "runtimes/runtime_segmentation",
        ),
        model=dict(
            data_preprocessor=dict(size=(choices.side, choices.side)),
            backbone=dict(
                img_size=592,
                embed_dim=384,
                num_heads=6,
                layer_scale=True,
                init_cfg=dict(type="Pretrained", checkpoint=choices.weights),
            ),  # fmt: skip
            decode_head=dict(in_channels=384, channels=384, num_classes=len(data.classes)),
            test_cfg=dict(_delete_=True, mode="whole"),
        ),
        train_dataloader=dict(
            batch_size=choices.batch,
            num_workers=choices.workers,
            persistent_workers=False,
            sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True),
            dataset=dataset("train", train),
        ),
        val_dataloader=val,
        test_dataloader=val,
    )


def _suffix(data: LabelMaps) -> str:
    suffixes = {image.suffix for pairs in data.splits.values() for image, _ in pairs}
    return suffixes.pop() if len(suffixes) == 1 else ".png"


def _write_maps(data: LabelMaps, name: str, pairs: Sequence[tuple[Path, Path]], labels: Path) -> None:
    from PIL import Image

    images, maps, suffix = labels / f"images_{name}", labels / f"maps_{name}", _suffix(data)
    for folder in (images, maps):
        folder.mkdir(exist_ok=True)
    twice, number = Counter(image.stem for image, _ in pairs).most_common(1)[0]
    if number > 1:
        raise DataError(f"two images to {'train' if name == 'train' else 'validate'} are called {twice}: rename one")
    for image, label in pairs:
        result, size = numbered(label, data.table), loaded_size(image)
        if result.shape[::-1] != size:
            raise DataError(
                f"{label} has {result.shape[1]} x {result.shape[0]} pixels and {image} has {size[0]} x {size[1]}: a "
                "label map must have its image's size"
            )
        target = images / f"{image.stem}{suffix}"
        if target.is_symlink() or target.exists():
            target.unlink()
        if image.suffix == suffix:
            _link(image, target)
        else:
            with replacing(target) as part:
                Image.open(image).convert("RGB").save(part)
        with replacing(maps / f"{image.stem}.png") as part:
            Image.fromarray(result).save(part)


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source)
    except OSError:  # a file system without links
        write_file(target, source.read_bytes())


def _classification(data: ClassFolders, labels: Path, choices: Choices) -> dict:
    for name, items in data.splits.items():
        write_file(labels / f"{name}.txt", "".join(f"{file} {label}\n" for file, label in items))
    side = choices.side
    train = [
        dict(type="LoadImageFromFile"),
        dict(type="RandomResizedCrop", scale=side, crop_ratio_range=(0.4, 1.0)),
        dict(type="RandomFlip", prob=0.5, direction="horizontal"),
        dict(type="PackInputs"),
    ]
    test = [
        dict(type="LoadImageFromFile"),
        dict(type="ResizeEdge", scale=side, edge="short"),
        dict(type="CenterCrop", crop_size=side),
        dict(type="PackInputs"),
    ]

    def dataset(name: str, pipeline: list) -> dict:
        meta = dict(classes=tuple(data.classes))
        file = str(labels / f"{name}.txt")
        return dict(data_root="", data_prefix="", ann_file=file, metainfo=meta, pipeline=pipeline)

    val = dict(batch_size=choices.batch, num_workers=choices.workers, dataset=dataset("val", test))
    evaluator = dict(type="Accuracy", topk=(1, min(5, len(data.classes))))
    return dict(
        _base_=_bases(
            "models/deit", "datasets/cifar10", "schedules/recipe_deit_nano", "runtimes/runtime_classification"
        ),
        model=dict(backbone=dict(model_name="vit_small_patch14_dinov2", img_size=side, num_classes=len(data.classes))),
        load_from=choices.weights,
        train_dataloader=dict(batch_size=choices.batch, num_workers=choices.workers, dataset=dataset("train", train)),
        val_dataloader=val,
        test_dataloader=val,
        val_evaluator=evaluator,
        test_evaluator=evaluator,
    )
