"""Every shipped segmentation config builds in full size, trains a step and tests a step on small images.

Steps run at an eighth of the width. The configs of DToP have the published numbers.
"""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from config_data import counts_from_one, narrow_mask2former, write_images
from meta import without_storage
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, HOOKS, MODELS

import mmdet_custom  # noqa: F401 - registers ViT-Adapter
import mmseg_custom  # noqa: F401 - registers segmentors and backbones
from mmcv_custom import DataError
from mmcv_custom.cli.config_check import check_config
from mmcv_custom.data.checks import check_datasets
from token_pruning import METHODS, Cropr, Trace

FOLDER = Path(__file__).resolve().parents[2] / "configs"
LEAVES = sorted(
    path
    for folder in ("segmentation", "segmentation/camvid-720", "segvit", "setr", "cropr/ade20k", "cropr/camvid")
    for path in FOLDER.glob(f"{folder}/*.py")
) + sorted(FOLDER.glob("mask2former/*_ade20k-640*.py"))


def side_of(model):
    """Return the side in pixels of the images that a step is taken on.

    Losses cost per pixel; configs of ToMe and PPT remove up to 288 tokens of an image, 260 of them in one block, and
    288 pixels give them 324.
    """
    merges = (model.backbone.get("reducer") or {}).get("type") in ("ToMe", "PPT")
    return 288 if merges else 160


def test_there_are_dense_and_pruned_configs_of_both_data_sets():
    names = {p.stem for p in LEAVES}
    dense = ["vit-s_linear", "vit-b_linear", "vit-adapter-t_upernet", "vit-adapter-s_upernet"]
    for name in dense:
        model, head = name.split("_")
        assert {f"{model}{kind}_{head}_ade20k-512" for kind in ("", "-tome", "-ppt")} <= names
    assert {f"vit-nano{kind}_linear_camvid-352" for kind in ("", "-tome", "-ppt", "-random", "-svit")} <= names
    segvit = [
        "b{}_segvit_ade20k-512",
        "l{}_segvit_ade20k-640",
        "l{}_segvit_coco-stuff10k-512",
        "l{}_segvit_pascal-context59-480",
        "nano{}_segvit_camvid-352",
        "nano{}_segvit_digit-scenes-128",
        "l{}_setr_ade20k-512",
    ]
    assert {f"vit-{name.format(kind)}" for name in segvit for kind in ("", "-dtop")} <= names


def test_there_are_dense_and_pruned_configs_of_mask2former():
    names = {p.stem for p in LEAVES}
    assert {
        f"dinov{v}-adapter-{s}{m}_mask2former_ade20k-640" for v in (2, 3) for s in "sl" for m in ("", "-tome")
    } <= names
    assert "dinov2-adapter-s-svit_mask2former_ade20k-640_ftune" in names


def test_there_are_configs_of_cropr():
    names = {p.stem for p in LEAVES}
    assert {f"{m}_linear_ade20k-512" for m in ("eva02-l", "eva02-l-cropr", "eva02-l-cropr_mended")} <= names
    assert {f"vit-{s}{m}_linear_ade20k-512_64e" for s in "bl" for m in ("", "-cropr")} <= names
    assert {f"vit-nano-cropr{m}_linear_camvid-352" for m in ("", "_no-fusion", "_random")} <= names
    assert {f"eva02-nano{m}_linear_camvid-352" for m in ("", "-cropr")} <= names


def fit_cropr(reducer, crop, side):
    """Check that schedule and queries fit the config's crops, then shrink them to images of ``side``."""
    assert reducer.schedule.tokens_left((crop // 16, crop // 16), 1)[-1] > 40
    if not reducer.has_aux_heads:
        return
    assert reducer.num_queries == (crop // 16) ** 2
    reducer.num_queries = (side // 16) ** 2
    for router in reducer.routers:
        queries = router.cross_attn.queries
        queries.data = queries.data[:, : reducer.num_queries]
    reducer.anneal(reducer.num_queries / (crop // 16) ** 2)


def build(model):
    """Build a config's model for small images: in full size without storage, then at an eighth of its width."""
    if model.backbone.embed_dim >= 192:
        with without_storage():
            full = sum(p.numel() for p in MODELS.build(model).parameters())
        assert full > (300e6 if model.backbone.depth > 12 else 20e6)
        model = copy.deepcopy(model)
        model.backbone.embed_dim //= 8
        if model.decode_head.type == "Mask2FormerHead":
            width = [model.backbone.embed_dim] * 4
            narrow_mask2former(model.decode_head, model.decode_head.train_cfg, width)
            return small(model)
        heads = model.get("auxiliary_head", [])
        for head in (model.decode_head, *(heads if isinstance(heads, list) else [heads])):
            widths = head.in_channels
            head.in_channels = [c // 8 for c in widths] if isinstance(widths, list) else widths // 8
            if "channels" in head:
                head.channels //= 8
    return small(model)


def small(model):
    """Build a config's model and let it take images of ``side_of``."""
    built = MODELS.build(model)
    built.data_preprocessor.size = (side_of(model),) * 2
    return built


def batch(cfg, loader):
    """Return the two images of a split through the config's own pipeline, at a size that costs little."""
    side = side_of(cfg.model)
    dataset = DATASETS.build(loader.dataset)
    data = pseudo_collate([dataset[0], dataset[1]])
    for i, (image, sample) in enumerate(zip(data["inputs"], data["data_samples"], strict=True)):
        assert image.dtype == torch.uint8 and len(image) == 3
        data["inputs"][i] = F.interpolate(image[None].float(), (side, side))[0]
        labels = sample.gt_sem_seg.data
        del sample.gt_sem_seg.data
        sample.gt_sem_seg.data = F.interpolate(labels[None].float(), (side, side))[0].long()
        sample.set_metainfo(dict(img_shape=(side, side), ori_shape=(side, side)))
    return data


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.stem)
def test_config(path, tmp_path):
    torch.manual_seed(0)
    cfg = Config.fromfile(path)
    check_config(cfg)
    init_default_scope(cfg.default_scope)
    write_images(cfg, tmp_path)
    said = check_datasets(cfg, ("train", "val", "test"))
    assert all(sentence.startswith(("classes in", "no pixel of class")) for sentence in said)
    model, side = build(cfg.model), side_of(cfg.model)

    for hook in cfg.custom_hooks:
        HOOKS.build(hook)
    fp32 = {k: v for k, v in cfg.optim_wrapper.items() if k not in ("loss_scale", "dtype")} | dict(type="OptimWrapper")
    build_optim_wrapper(model, fp32)
    if isinstance(model.backbone.reducer, Cropr):
        fit_cropr(model.backbone.reducer, cfg.model.data_preprocessor["size"][0], side)
    if model.data_preprocessor.test_cfg:
        model.data_preprocessor.test_cfg = None  # which pads to whole windows
    data = model.data_preprocessor(batch(cfg, cfg.train_dataloader), True)
    losses = model.train()(**data, mode="loss")
    total, logged = model.parse_losses(losses)
    total.backward()
    named = "cls" if cfg.model.decode_head.type == "Mask2FormerHead" else "ce"
    assert total.isfinite() and logged[f"decode.loss_{named}"] > 0
    reducer, wanted = model.backbone.reducer, cfg.model.backbone.get("reducer")
    assert type(reducer) is (type(None) if wanted is None else METHODS[wanted.type])
    if reducer is not None and reducer.needs_training and list(reducer.parameters()):
        learned = [name for name in logged if name.startswith(("loss_ratio", "loss_aux."))]
        assert learned and all(logged[name] > 0 for name in learned)
        assert any(name.startswith("keep_ratio.") for name in logged)
    assert [name for name, p in model.named_parameters() if p.grad is None and p.requires_grad] == []

    if reducer is not None and reducer.needs_class_scores:  # fresh heads are sure of nothing
        reducer.threshold_of = dict.fromkeys(reducer.threshold_of, 1e-3)
    data = model.data_preprocessor(batch(cfg, cfg.test_dataloader), False)
    with torch.no_grad(), Trace() as trace:
        results = model.eval()(**data, mode="predict")
    for result in results:
        assert result.pred_sem_seg.data.shape == (1, side, side)
        assert result.seg_logits.data.shape == (cfg.model.decode_head.num_classes, side, side)
    used = trace.passes[0].keep_ratio()
    assert used.shape == (2, cfg.model.backbone.depth)
    assert (used < 1).any() == (reducer is not None)


NEW_LABELS = [
    path
    for path in LEAVES
    if path.stem
    in (
        "vit-l_segvit_ade20k-640",
        "vit-l_segvit_coco-stuff10k-512",
        "vit-l_segvit_pascal-context59-480",
        "vit-l_setr_ade20k-512",
        "vit-nano_segvit_digit-scenes-128",
        "dinov2-adapter-s_mask2former_ade20k-640",
    )
]


@pytest.mark.parametrize("path", NEW_LABELS, ids=lambda p: p.stem)
def test_crops_in_which_everything_is_ignored_train_without_harm(path, tmp_path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    write_images(cfg, tmp_path, labels=[0 if counts_from_one(cfg.train_dataloader.dataset) else 255])
    with pytest.raises(DataError, match="all pixels of .* are ignored"):  # as whole label maps
        check_datasets(cfg)
    model = build(cfg.model).train()
    losses = model(**model.data_preprocessor(batch(cfg, cfg.train_dataloader), True), mode="loss")
    total, _ = model.parse_losses(losses)
    total.backward()
    assert total.isfinite() and all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(labels=[1, 200]), "has label (199|200) and there are"),
        (dict(size=(160, 120)), "is 160 x 120 and its image 120 x 160"),
    ],
)
@pytest.mark.parametrize("path", NEW_LABELS, ids=lambda p: p.stem)
def test_label_maps_that_do_not_fit_are_one_sentence(path, tmp_path, change, message):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    write_images(cfg, tmp_path, **change)
    with pytest.raises(DataError, match=message):
        check_datasets(cfg)
    with pytest.raises(DataError, match=message):
        batch(cfg, cfg.train_dataloader)


# classes, crop, stride, short side, attention heads, threshold, iterations; the schedule of vit-b_segvit_ade20k-512 and
# what has no effect are set right (configs/segvit/README.md).
PUBLISHED = {
    "vit-b_segvit_ade20k-512": (150, 512, 341, 512, 6, None, 160000),
    "vit-b-dtop_segvit_ade20k-512": (150, 512, 341, 512, 6, 0.90, 40000),
    "vit-l_segvit_ade20k-640": (150, 640, 320, 640, 8, None, 160000),
    "vit-l-dtop_segvit_ade20k-640": (150, 640, 320, 640, 8, 0.95, 40000),
    "vit-l_segvit_coco-stuff10k-512": (171, 512, 341, 512, 16, None, 160000),
    "vit-l-dtop_segvit_coco-stuff10k-512": (171, 512, 341, 512, 16, 0.95, 20000),
    "vit-l_segvit_pascal-context59-480": (59, 480, 320, 520, 16, None, 160000),
    "vit-l-dtop_segvit_pascal-context59-480": (59, 480, 320, 520, 16, 0.95, 40000),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name):
    classes, crop, stride, short, num_heads, threshold, iterations = PUBLISHED[name]
    cfg = Config.fromfile(FOLDER / "segvit" / f"{name}.py")
    model, backbone, large = cfg.model, cfg.model.backbone, "vit-l" in name
    width, depth, ends = (1024, 24, [7, 15, 23]) if large else (768, 12, [5, 7, 11])
    assert (backbone.embed_dim, backbone.depth, backbone.num_heads) == (width, depth, 16 if large else 12)
    assert backbone.out_indices == ends and backbone.drop_path_rate == (0.3 if large else 0.1)
    assert len(model.auxiliary_head) == 2
    for head in (*model.auxiliary_head, model.decode_head):
        assert (head.in_channels, head.channels, head.layers_per_decoder) == (width, width // 2, 3)
        assert (head.num_classes, head.get("num_heads", 6)) == (classes, num_heads)

    pipeline = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert model.data_preprocessor.mean == model.data_preprocessor.std == [127.5] * 3
    assert backbone.img_size == crop and model.data_preprocessor["size"] == (crop, crop)
    assert pipeline["RandomCrop"] == dict(type="RandomCrop", crop_size=(crop, crop), cat_max_ratio=0.75)
    assert pipeline["RandomResize"]["scale"] == (2560 if crop == 640 else 2048, short)
    assert cfg.test_dataloader.dataset.pipeline[1].scale == pipeline["RandomResize"]["scale"]
    assert model.test_cfg == dict(mode="slide", crop_size=(crop, crop), stride=(stride, stride))

    reducer = backbone.get("reducer")
    assert reducer == (threshold and dict(type="DToP", stages=ends[:2], threshold=threshold))
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == iterations
    assert cfg.param_scheduler[0] == dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500)
    assert cfg.optim_wrapper == dict(
        type="OptimWrapper",
        optimizer=dict(type="AdamW", lr=2e-5, betas=(0.9, 0.999), weight_decay=0.01),
        paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))),
    )
    assert (cfg.train_dataloader.batch_size, cfg.val_dataloader.batch_size) == (4, 1)
