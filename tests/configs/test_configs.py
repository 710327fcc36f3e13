"""Every shipped config is short and starts from weights that exist; those of detection train and test a step.

Their keys are read, their pipelines run, their models are built in full size and stepped on a small image. The others:
test_classification_configs.py, test_segmentation_configs.py, test_eomt_configs.py.
"""

import re
from pathlib import Path

import pytest
import torch
from config_data import narrow_mask2former, small_coco
from meta import without_storage
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

import mmdet_custom  # noqa: F401 - registers the models
from mmcv_custom.cli.config_check import check_config
from token_pruning import Reducer, Trace

ROOT = Path(__file__).resolve().parents[2]
SHRUNK = 96  # pixels, the longer side of what models are stepped on
SEGMENTATION = {"segmentation", "segvit", "setr", "eomt"}
MASK2FORMER = [
    "_mask2former_coco-instance-1024",
    "-tome_mask2former_coco-instance-1024",
    "-svit_mask2former_coco-instance-1024_ftune",
]
LEAVES = sorted(p for p in (ROOT / "configs").rglob("*.py") if "_base_" not in p.parts)
DETECTION = [
    p
    for p in LEAVES
    if p.relative_to(ROOT / "configs").parts[0] not in SEGMENTATION | {"cropr", "deit"}
    and "mask2former_ade20k" not in p.stem
    or "cropr/coco" in p.as_posix()
]


def batch(cfg, loader, folder, annotation):
    """Return the one sample of the small data set, through the config's own pipeline."""
    from mmdet.registry import DATASETS

    spec = loader.dataset.copy()
    spec.update(data_root=None, ann_file=annotation, data_prefix=dict(img=str(folder)), filter_cfg=None)
    sample = DATASETS.build(spec)[0]
    return dict(inputs=[sample["inputs"]], data_samples=[sample["data_samples"]])


def shrink(data, size=SHRUNK):
    """Resize the sample, its boxes and its masks to a size that costs nothing."""
    image, sample = data["inputs"][0], data["data_samples"][0]
    height, width = image.shape[-2:]
    factor = size / max(height, width)
    new = (max(32, round(height * factor)), max(32, round(width * factor)))
    data["inputs"][0] = torch.nn.functional.interpolate(image[None].float(), new)[0].to(image.dtype)
    if "gt_instances" in sample:
        instances = sample.gt_instances
        instances.bboxes.rescale_([new[1] / width, new[0] / height])
        if "masks" in instances:
            instances.masks = instances.masks.resize(new)
    sample.set_metainfo(dict(img_shape=new, ori_shape=new, scale_factor=(1.0, 1.0)))
    return data


def slim(cfg):
    """Build a network of size T and above where it costs nothing, and give it fewer channels for the test."""
    from mmdet.registry import MODELS

    backbone = cfg.model.backbone
    if backbone.embed_dim >= 192:
        with without_storage():
            MODELS.build(cfg.model)
        backbone.update(embed_dim=96, num_heads=6)
        if "deform_num_heads" in backbone:
            backbone.deform_num_heads = 6
        if "panoptic_head" in cfg.model:
            narrow_mask2former(cfg.model.panoptic_head, cfg.model.train_cfg, [96] * 4)
            return
        neck = cfg.model.neck
        neck.in_channels = [96] * 4 if isinstance(neck.in_channels, list) else 96
        neck.setdefault("out_channels", 256)
        narrow([neck, *(cfg.model[name] for name in ("rpn_head", "roi_head", "bbox_head") if name in cfg.model)])


def narrow(part):
    """Give the neck and the heads, whatever their structure, an eighth of the usual numbers of channels."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part):
        if isinstance(value, dict | list):
            narrow(value)
        elif value in (256, 1024) and str(key).endswith("channels"):
            part[key] = value // 8


def test_there_are_configs():
    names = {p.relative_to(ROOT / "configs").as_posix() for p in LEAVES}
    published = [
        "vit-adapter-t-3x",
        "vit-adapter-s-3x",
        "vit-window_attn-adapter-t-3x",
        "vit-window_attn-adapter-s-3x",
        "svit-adapter-t-0.5x-ftune",
        "svit-adapter-s-0.33x-ftune",
    ]
    assert {f"mask2former/dinov2-adapter-s{kind}.py" for kind in MASK2FORMER} <= names
    assert {f"mask_rcnn/{name}.py" for name in [*published, "cropr-adapter-t", "cropr-adapter-s"]} <= names
    pyramids = ["vit-b", "vit-b-window", "vit-b-cropr", "eva02-l", "eva02-l-cropr"]
    assert {f"cropr/coco/{name}_cascade-mask-rcnn_coco-1024.py" for name in pyramids} <= names
    tested = {path.relative_to(ROOT / "configs").as_posix() for path in DETECTION}
    assert {name for name in names if "coco-1024" in name} < tested


def weights(path):
    """Return the files of weights that a config names."""
    cfg = Config.fromfile(path)
    trunk = (cfg.model.backbone.get("init_cfg") or {}).get("checkpoint")
    teacher = (cfg.model.get("distillation") or {}).get("teacher") or {}
    return [Path(name) for name in (cfg.get("load_from"), trunk, teacher.get("checkpoint")) if name]


def test_a_config_that_starts_from_another_ones_weights_names_a_file_that_one_writes():
    named = {path.stem: path for path in LEAVES}
    assert len(named) == len(LEAVES)  # or two would share a folder below work_dirs
    # What a config does not set itself is its base's, which is looked at on its own.
    own = [path for path in LEAVES if re.search("load_from|checkpoint=", path.read_text())]
    starts = [(path, start) for path in own for start in weights(path)]
    assert len(starts) > 5
    published = (ROOT / "pretrained" / "README.md").read_text()
    for path, start in starts:
        if start.parent.name == "pretrained":
            assert f"`{start.name}`" in published, path
            continue
        if start.as_posix() == "timm":  # the weights of timm's hub
            continue
        if start.parent.name == "weights":  # they come with the project
            assert (ROOT / start).is_file(), path
            continue
        loop = Config.fromfile(named[start.parent.name]).train_cfg
        last = f"iter_{loop.max_iters}" if "max_iters" in loop else f"epoch_{loop.max_epochs}"
        assert start.as_posix() == f"work_dirs/{start.parent.name}/{last}.pth", path


def test_data_workers_end_with_each_epoch():
    """As the README says: only then is a resumed training equal to an uninterrupted one."""
    files = (ROOT / "configs").rglob("*.py")
    assert not [path for path in files if re.search(r"persistent_workers\W+True", path.read_text())]


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.relative_to(ROOT / "configs").as_posix())
def test_leaf_is_short(path):
    assert len(path.read_text().splitlines()) < 40


@pytest.mark.parametrize("path", DETECTION, ids=lambda p: p.relative_to(ROOT / "configs").as_posix())
def test_config(path, tmp_path):
    from mmdet.registry import MODELS

    torch.manual_seed(0)
    cfg = Config.fromfile(path)
    check_config(cfg)
    init_default_scope(cfg.default_scope)
    slim(cfg)
    reducer = cfg.model.backbone.get("reducer") or {}
    if reducer.get("num_queries", 1) > 1:
        reducer.num_queries = (SHRUNK // 16) ** 2
    if isinstance(reducer.get("r"), int):  # of thousands of tokens
        reducer.r = min(reducer.r, (SHRUNK // 16) ** 2 // 3)
    model = MODELS.build(cfg.model)
    model.data_preprocessor.batch_augments = None  # which pad to the full size
    if "panoptic_head" in cfg.model:
        classes = cfg.model.panoptic_head.num_things_classes
    else:
        heads = cfg.model.get("roi_head", cfg.model).bbox_head
        (classes,) = {head.num_classes for head in (heads if isinstance(heads, list) else [heads])}
    metainfo = cfg.train_dataloader.dataset.get("metainfo")
    if metainfo is None:
        from mmdet.datasets import CocoDataset

        metainfo = CocoDataset.METAINFO
    assert len(metainfo["classes"]) == classes
    annotation = small_coco(tmp_path, metainfo["classes"])

    fp32 = {k: v for k, v in cfg.optim_wrapper.items() if k not in ("loss_scale", "dtype")} | dict(type="OptimWrapper")
    build_optim_wrapper(model, fp32)
    data = model.data_preprocessor(shrink(batch(cfg, cfg.train_dataloader, tmp_path, annotation)), True)
    losses = model.train()(**data, mode="loss")
    total, logged = model.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    reducer = model.backbone.reducer
    assert isinstance(reducer, Reducer) == (cfg.model.backbone.get("reducer") is not None)
    assert reducer is None or all(p.grad is not None for p in reducer.parameters())
    if reducer is not None and reducer.needs_training and list(reducer.parameters()):
        own = [name for name in logged if name.startswith(("loss_ratio", "loss_aux"))]
        assert own and all(logged[name] > 0 for name in own)
        assert any(name.startswith("keep_ratio.") for name in logged)

    data = model.data_preprocessor(shrink(batch(cfg, cfg.test_dataloader, tmp_path, annotation)), False)
    with torch.no_grad(), Trace() as trace:
        (result,) = model.eval()(**data, mode="predict")
    with_masks = "panoptic_head" in cfg.model or cfg.model.get("roi_head", {}).get("mask_head")
    masks = {"masks"} if with_masks else set()
    assert set(result.pred_instances.keys()) == {"bboxes", "scores", "labels"} | masks
    used = trace.passes[0].keep_ratio()
    assert used.shape == (1, cfg.model.backbone.depth)
    assert (used < 1).any() == (reducer is not None)
