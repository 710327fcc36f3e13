"""Every config of segmentation: its keys are read, its pipelines run, its model builds in full size, trains a step and
tests a step on small pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, HOOKS, MODELS
from PIL import Image

import mmdet_custom  # noqa: F401 - registers ViT-Adapter
import mmseg_custom  # noqa: F401 - registers segmentors and backbones
from mmcv_custom.config_check import check_config
from mmcv_custom.data_check import check_datasets
from token_pruning import METHODS, Cropr, Trace

FOLDER = Path(__file__).resolve().parents[2] / "configs"
LEAVES = sorted(path for place in ("segmentation", "segvit", "cropr/ade20k", "cropr/camvid")
                for path in FOLDER.glob(f"{place}/*.py"))
SIDE = 288  # 324 tokens: the most that a config takes out of a picture in one block is 260


def test_there_are_dense_and_pruned_configs_of_both_data_sets():
    names = {p.stem for p in LEAVES}
    dense = ["vit-s_linear", "vit-b_linear", "vit-adapter-t_upernet", "vit-adapter-s_upernet"]
    for name in dense:
        model, head = name.split("_")
        assert {f"{model}{kind}_{head}_ade20k-512" for kind in ("", "-tome", "-ppt")} <= names
    assert {f"vit-nano{kind}_linear_camvid-352" for kind in ("", "-tome", "-ppt", "-random", "-svit")} <= names
    assert {f"vit-{rest}" for rest in ("b_segvit_ade20k-512", "b-dtop_segvit_ade20k-512", "nano_segvit_camvid-352",
                                       "nano-dtop_segvit_camvid-352")} <= names


def test_there_are_configs_of_cropr():
    names = {p.stem for p in LEAVES}
    assert {f"{m}_linear_ade20k-512" for m in ("eva02-l", "eva02-l-cropr", "eva02-l-cropr_mended")} <= names
    assert {f"vit-{s}{m}_linear_ade20k-512_64e" for s in "bl" for m in ("", "-cropr")} <= names
    assert {f"vit-nano-cropr{m}_linear_camvid-352" for m in ("", "_no-fusion", "_random")} <= names
    assert {f"eva02-nano{m}_linear_camvid-352" for m in ("", "-cropr")} <= names


def slim(cfg):
    """A network of size L is built where it costs nothing, and tested with fewer channels."""
    if cfg.model.backbone.embed_dim > 768:
        with torch.device("meta"):
            MODELS.build(cfg.model)
        cfg.model.backbone.update(embed_dim=64, num_heads=4)
        cfg.model.decode_head.in_channels = 64


def fit_cropr(reducer, crop):
    """Its rates and queries are made for the config's crops: that they fit is looked at here, then they shrink to the
    small pictures."""
    assert reducer.rates.left((crop // 16, crop // 16), 1)[-1] > 40
    if not reducer.supervised:
        return
    assert reducer.num_queries == (crop // 16)**2
    reducer.num_queries = (SIDE // 16)**2
    for router in reducer.routers:
        queries = router.cross_attn.queries
        queries.data = queries.data[:, :reducer.num_queries]
    reducer.ease(reducer.num_queries / (crop // 16)**2)


def write_pictures(cfg, folder):
    """Two pictures for each split where the config looks for them, with every label that it knows."""
    classes = cfg.model.decode_head.num_classes
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        spec = cfg[f"{split}_dataloader"].dataset
        spec.data_root = str(folder)
        for kind, shape in (("img_path", (120, 160, 3)), ("seg_map_path", (120, 160))):
            place = folder / spec.data_prefix[kind]
            place.mkdir(parents=True)
            suffix = spec.get("img_suffix", ".jpg") if kind == "img_path" else ".png"
            for i in range(2):
                values = random.integers(0, 255, shape, dtype=np.uint8)
                labels = values.astype(int) % (classes + 1)  # with what ADE20K counts from one, or CamVid has as void
                if kind == "seg_map_path":
                    values = np.where(labels == classes, 255 if "camvid" in cfg.filename else classes, labels)
                Image.fromarray(values.astype(np.uint8)).save(place / f"{i}{suffix}")
    cfg.test_dataloader.dataset = cfg.val_dataloader.dataset


def batch(cfg, loader):
    """The two pictures of a split through the config's own pipeline, at a size that costs little."""
    dataset = DATASETS.build(loader.dataset)
    data = pseudo_collate([dataset[0], dataset[1]])
    for i, (image, sample) in enumerate(zip(data["inputs"], data["data_samples"], strict=True)):
        assert image.dtype == torch.uint8 and len(image) == 3
        data["inputs"][i] = F.interpolate(image[None].float(), (SIDE, SIDE))[0]
        labels = sample.gt_sem_seg.data
        del sample.gt_sem_seg.data
        sample.gt_sem_seg.data = F.interpolate(labels[None].float(), (SIDE, SIDE))[0].long()
        sample.set_metainfo(dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE)))
    return data


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.stem)
def test_config(path, tmp_path):
    torch.manual_seed(0)
    cfg = Config.fromfile(path)
    check_config(cfg)
    init_default_scope(cfg.default_scope)
    write_pictures(cfg, tmp_path)
    assert check_datasets(cfg, ("train", "val", "test")) == []
    slim(cfg)
    model = MODELS.build(cfg.model)
    model.data_preprocessor.size = (SIDE, SIDE)

    for hook in cfg.custom_hooks:
        HOOKS.build(hook)
    fp32 = {k: v for k, v in cfg.optim_wrapper.items() if k != "loss_scale"} | dict(type="OptimWrapper")
    build_optim_wrapper(model, fp32)
    if isinstance(model.backbone.reducer, Cropr):
        fit_cropr(model.backbone.reducer, cfg.model.data_preprocessor.size[0])
    if model.data_preprocessor.test_cfg:
        model.data_preprocessor.test_cfg = None  # which pads to whole windows
    data = model.data_preprocessor(batch(cfg, cfg.train_dataloader), True)
    losses = model.train()(**data, mode="loss")
    total, logged = model.parse_losses(losses)
    total.backward()
    assert total.isfinite() and logged["decode.loss_ce"] > 0
    reducer, wanted = model.backbone.reducer, cfg.model.backbone.get("reducer")
    assert type(reducer) is (type(None) if wanted is None else METHODS[wanted.type])
    if reducer is not None and list(reducer.parameters()):
        learned = [name for name in logged if name.startswith(("loss_ratio", "loss_aux."))]
        assert learned and all(logged[name] > 0 for name in learned)
        assert any(name.startswith("keep_ratio.") for name in logged)
    assert [name for name, p in model.named_parameters() if p.grad is None] == []

    if reducer is not None and reducer.judged:  # fresh heads are sure of nothing
        reducer.threshold_of = dict.fromkeys(reducer.threshold_of, 1e-3)
    data = model.data_preprocessor(batch(cfg, cfg.test_dataloader), False)
    with torch.no_grad(), Trace() as trace:
        results = model.eval()(**data, mode="predict")
    for result in results:
        assert result.pred_sem_seg.data.shape == (1, SIDE, SIDE)
        assert result.seg_logits.data.shape == (cfg.model.decode_head.num_classes, SIDE, SIDE)
    used = trace.passes[0].keep_ratio()
    assert used.shape == (2, cfg.model.backbone.depth)
    assert (used < 1).any() == (reducer is not None)
