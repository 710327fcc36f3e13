"""Every config of EoMT is built in full size, and trains and tests a small step; recipes have their numbers."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from config_data import small_coco, small_panoptic, write_images
from meta import without_storage
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, PARAM_SCHEDULERS, build_from_cfg, init_default_scope
from mmengine.structures import PixelData

import mmdet_custom  # noqa: F401 - registers the detectors
import mmseg_custom  # noqa: F401 - registers the segmentors
from mmcv_custom import DataError
from mmcv_custom.cli.config_check import check_config
from mmcv_custom.data.checks import check_datasets
from token_pruning import METHODS, Trace

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "eomt"
LEAVES = sorted(FOLDER.glob("*.py"))
SIDE = 96  # pixels of what models are stepped on


def is_semantic(cfg):
    return cfg.model.type == "EoMTSegmentor"


def registry(cfg):
    from mmdet.registry import MODELS as DETECTORS
    from mmseg.registry import MODELS as SEGMENTORS

    return SEGMENTORS if is_semantic(cfg) else DETECTORS


def build(cfg):
    """Build a config's model in full size without storage, then narrow and for small images."""
    models = registry(cfg)
    with without_storage():
        full = models.build(cfg.model)
    model = copy.deepcopy(cfg.model)
    head = model.decode_head if is_semantic(cfg) else model.panoptic_head
    assert full.backbone.embed_dim == head.in_channels
    if "reducer" in model.backbone:  # as large a part of the grid
        model.backbone.reducer.r = max(1, model.backbone.reducer.r * SIDE**2 // model.backbone.img_size**2)
    model.backbone.update(img_size=SIDE, embed_dim=48, num_heads=3)
    head.update(in_channels=48, num_points=400)
    if "size" in model.data_preprocessor:
        model.data_preprocessor.size = (SIDE, SIDE)
    return models.build(model), full


def semantic_batch(cfg, folder, split):
    from mmseg.registry import DATASETS

    loader = cfg[f"{split}_dataloader"]
    dataset = DATASETS.build(loader.dataset)
    data = pseudo_collate([dataset[0], dataset[1]])
    for i, (image, sample) in enumerate(zip(data["inputs"], data["data_samples"], strict=True)):
        if split == "train" and "digit" not in cfg.filename:  # crops are filled up with black
            assert tuple(image.shape[-2:]) == cfg.model.data_preprocessor["size"]
        data["inputs"][i] = F.interpolate(image[None].float(), (SIDE, SIDE))[0]
        labels = sample.gt_sem_seg.data
        del sample.gt_sem_seg.data
        sample.gt_sem_seg.data = F.interpolate(labels[None].float(), (SIDE, SIDE))[0].long()
        sample.set_metainfo(dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE)))
    return data


def object_batch(cfg, folder, split):
    """Return the one sample of a small data set, through the config's own pipeline, at a size that costs little."""
    from mmdet.registry import DATASETS

    panoptic = cfg.model.panoptic_head.num_stuff_classes > 0
    spec = cfg[f"{split}_dataloader"].dataset.copy()
    if panoptic:
        spec.update(small_panoptic(folder, spec.get("metainfo") or DATASETS.get(spec.type).METAINFO))
    else:
        names = [str(k) for k in range(cfg.model.panoptic_head.num_things_classes)]
        annotation = small_coco(folder, names)
        spec.update(data_root=None, ann_file=annotation, data_prefix=dict(img=str(folder)), filter_cfg=None)
        spec.metainfo = dict(classes=names)
    packed = DATASETS.build(spec)[0]
    image, sample = packed["inputs"], packed["data_samples"]
    largest = cfg.model.backbone.img_size
    assert max(image.shape[-2:]) == largest and len(sample.gt_instances) == 1
    new = tuple(round(side * SIDE / largest) for side in image.shape[-2:])
    image = F.interpolate(image[None].float(), new)[0].to(torch.uint8)
    masks = torch.from_numpy(sample.gt_instances.masks.masks)[None].float()
    sample.gt_instances.masks = BitmapMasks(F.interpolate(masks, new)[0].numpy().astype(np.uint8), *new)
    if panoptic:
        stuff = sample.gt_sem_seg.sem_seg
        head = cfg.model.panoptic_head
        assert {*stuff.unique().tolist()} <= {0, head.num_things_classes + head.num_stuff_classes - 1, 255}
        sample.gt_sem_seg = PixelData(sem_seg=F.interpolate(stuff[None].float(), new)[0].long())
    sample.set_metainfo(dict(img_shape=new, ori_shape=new, scale_factor=(1.0, 1.0)))
    return dict(inputs=[image], data_samples=[sample])


def test_every_recipe_is_dense_and_merged():
    names = {path.stem for path in LEAVES}
    recipes = ["coco-instance-640", "ade20k-512", "ade20k-panoptic-640", "cityscapes-1024", "coco-panoptic-640"]
    wanted = [f"vit-l{{}}_eomt_{recipe}" for recipe in recipes]
    wanted += [f"dinov3-l{{}}_eomt_{recipe}" for recipe in ("coco-panoptic-640", "ade20k-512")]
    wanted += [f"vit-{size}{{}}_eomt_coco-panoptic-640" for size in "sb"]
    wanted += [f"vit-nano{{}}_eomt_digit-scenes-{kind}" for kind in ("128", "instance-256", "panoptic-256")]
    assert {name.format(kind) for name in wanted for kind in ("", "-tome")} <= names


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.stem)
def test_config(path, tmp_path):
    torch.manual_seed(0)
    cfg = Config.fromfile(path)
    check_config(cfg)
    init_default_scope(cfg.default_scope)
    if is_semantic(cfg):
        write_images(cfg, tmp_path)
        said = check_datasets(cfg, ("train", "val", "test"))
        assert all(sentence.startswith(("classes in", "no pixel of class")) for sentence in said)
    model, full = build(cfg)

    for hook in cfg.custom_hooks:
        HOOKS.build(hook)
    fp32 = {k: v for k, v in cfg.optim_wrapper.items() if k not in ("loss_scale", "dtype")} | dict(type="OptimWrapper")
    wrapper = build_optim_wrapper(model, fp32)
    for scheduler in cfg.param_scheduler:
        if "convert_to_iter_based" not in scheduler:
            build_from_cfg(scheduler, PARAM_SCHEDULERS, dict(optimizer=wrapper))

    model.backbone.mask_probs = [1.0] * model.backbone.query_blocks
    make = semantic_batch if is_semantic(cfg) else object_batch
    data = model.data_preprocessor(make(cfg, tmp_path, "train"), True)
    losses = model.train()(**data, mode="loss")
    total, logged = model.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    assert sum(name.endswith("loss_dice") for name in logged) == model.backbone.query_blocks + 1
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    reducer, wanted = model.backbone.reducer, cfg.model.backbone.get("reducer")
    assert type(reducer) is (type(None) if wanted is None else METHODS[wanted.type])

    model.backbone.mask_probs = [0.0] * model.backbone.query_blocks
    data = model.data_preprocessor(make(cfg, tmp_path, "test"), False)
    with torch.no_grad(), Trace() as trace:
        results = model.eval()(**data, mode="predict")
    for result in results:
        size = result.ori_shape
        if is_semantic(cfg):
            assert result.pred_sem_seg.data.shape == (1, *size)
        elif cfg.model.test_cfg.panoptic_on:
            assert result.pred_panoptic_seg.sem_seg.shape == (1, *size)
        if not is_semantic(cfg):
            found = result.pred_instances
            assert found.masks.shape[1:] == size and set(found.keys()) == {"bboxes", "scores", "labels", "masks"}
    used = trace.passes[0].keep_ratio()
    assert used.shape == (len(data["inputs"]), model.backbone.depth)
    assert (used < 1).any() == (reducer is not None)
    if reducer is not None:  # before the queries, and as many as the comment says
        assert reducer.pruned_blocks == [*range(full.backbone.depth)] or not {*wanted.blocks} & {
            *range(full.backbone.depth - full.backbone.query_blocks, full.backbone.depth)
        }
        grid = (cfg.model.backbone.img_size // cfg.model.backbone.get("patch_size", 16)) ** 2
        left = grid - wanted.r * len(wanted.blocks)
        assert f"{left} of {grid} remain" in path.read_text()


def test_panoptic_data_that_do_not_fit_are_one_sentence(tmp_path):
    cfg = Config.fromfile(FOLDER / "vit-s_eomt_coco-panoptic-640.py")
    init_default_scope(cfg.default_scope)
    with pytest.raises(DataError, match="panoptic_train2017.json does not exist"):
        check_datasets(cfg, ("train",))
    from mmdet.datasets import CocoPanopticDataset

    cfg.train_dataloader.dataset.update(small_panoptic(tmp_path, CocoPanopticDataset.METAINFO))
    assert check_datasets(cfg, ("train",)) == []
    cfg.model.panoptic_head.num_stuff_classes = 50
    with pytest.raises(DataError, match="has 80 classes of things and 50 of stuff and .* has 133 classes"):
        check_datasets(cfg, ("train",))


# model, k, Q, K, side, warm-ups, end of the annealing, images of training, iterations of an epoch x epochs
PUBLISHED = {
    "vit-s_eomt_coco-panoptic-640": ("small", 3, 200, 133, 640, 147820, 24),
    "vit-b_eomt_coco-panoptic-640": ("base", 3, 200, 133, 640, 147820, 24),
    "vit-l_eomt_coco-panoptic-640": ("large", 4, 200, 133, 640, 73910, 12),
    "vit-l_eomt_coco-instance-640": ("large", 4, 200, 80, 640, 73910, 12),
    "vit-l_eomt_ade20k-512": ("large", 4, 100, 150, 512, 32600, 31),
    "vit-l_eomt_ade20k-panoptic-640": ("large", 4, 200, 150, 640, 32600, 31),
    "vit-l_eomt_cityscapes-1024": ("large", 4, 100, 19, 1024, 16585, 107),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name):
    size, blocks, queries, classes, side, annealed, epochs = PUBLISHED[name]
    cfg = Config.fromfile(FOLDER / f"{name}.py")
    backbone, model = cfg.model.backbone, cfg.model
    head = model.decode_head if is_semantic(cfg) else model.panoptic_head
    assert backbone.model_name == f"vit_{size}_patch14_reg4_dinov2" and backbone.img_size == side
    assert (backbone.query_blocks, backbone.num_queries, head.num_queries) == (blocks, queries, queries)
    found = head.num_classes if is_semantic(cfg) else head.num_things_classes + head.num_stuff_classes
    assert found == classes
    (anneal,) = [hook for hook in cfg.custom_hooks if hook.type == "MaskAnnealingHook"]
    assert len(anneal.start) == len(anneal.end) == blocks and anneal.end[-1] == annealed
    (rates,) = cfg.param_scheduler
    assert (rates.type, rates.head_warmup, rates.encoder_warmup) == ("EoMTLR", 500, 1000) and rates.end > annealed
    images = dict(coco=118287, ade20k=20210, cityscapes=2975)[name.split("_")[2].split("-")[0]]
    assert abs(rates.end / (images / 16) - epochs) < 0.5
    assert cfg.optim_wrapper == dict(
        type="AmpOptimWrapper",
        loss_scale="dynamic",
        constructor="EoMTOptimWrapperConstructor",
        optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05),
        paramwise_cfg=dict(layer_decay_rate=0.8),
        clip_grad=dict(max_norm=0.01),
    )
