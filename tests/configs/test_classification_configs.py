"""Every shipped classification config builds, trains a step and tests a step on small images."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from meta import without_storage
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS, HOOKS, MODELS

import mmpretrain_custom  # noqa: F401 - registers the models
from mmcv_custom.cli.config_check import check_config
from mmcv_custom.cli.launch import read_config
from token_pruning import Reducer, Trace

ROOT = Path(__file__).resolve().parents[2]
CROPR = [path for data in ("imagenet", "cifar10") for path in (ROOT / "configs" / "cropr" / data).glob("*.py")]
LEAVES = sorted([*(ROOT / "configs" / "deit").rglob("*.py"), *CROPR])


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Class folders of train and val with one image each, of ImageNet's usual and of CIFAR-10's size."""
    folder = tmp_path_factory.mktemp("images")
    for name, shape in (("imagenet", (375, 500, 3)), ("cifar10", (32, 32, 3)), ("digits", (32, 32))):
        for split in ("train", "val"):
            for label in ("cat", "dog"):
                target = folder / name / split / label
                target.mkdir(parents=True)
                image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
                image[: 3 * shape[0] // 4] = 127  # flat, for methods that look for such parts
                cv2.imwrite(str(target / "a.png"), image)
    return folder


def batch(loader, images):
    """Both images of the small data set, through the config's own pipeline."""
    spec = loader.dataset.copy()
    spec.data_root = str(images / Path(spec.data_root).name)
    data = DATASETS.build(spec)
    assert data.metainfo["classes"] == ("cat", "dog")
    return default_collate([data[0], data[1]])


def with_teacher(cfg, folder):
    """Write fresh weights of the teacher's size where a distillation expects the published ones."""
    if cfg.model.get("distillation"):
        teacher = {k: v for k, v in cfg.model.distillation.teacher.items() if k != "checkpoint"}
        cfg.model.distillation.teacher.checkpoint = str(folder / "teacher.pth")
        torch.save(dict(model=MODELS.build(teacher).state_dict()), folder / "teacher.pth")


def slim(cfg):
    """Build a network of a published size where it costs nothing, and give it fewer channels for the test."""
    teacher = (cfg.model.get("distillation") or {}).get("teacher")
    if "embed_dim" not in cfg.model.backbone:
        with without_storage():
            MODELS.build({k: v for k, v in cfg.model.items() if k != "distillation"})
        for network in (cfg.model.backbone, *([teacher] if teacher else [])):
            network.update(embed_dim=64, num_heads=4)


def test_there_are_configs():
    names = {p.relative_to(ROOT / "configs").as_posix().removeprefix("deit/") for p in LEAVES}
    methods = ["ppt", "tome", "evit", "evovit", "dynamicvit", "ats", "svit", "random"]
    off_the_shelf = ["cubist", "apt", "apt-tome"]
    assert {f"{d}/{m}_deit-nano_{d}.py" for m in methods for d in ("cifar10", "digits")} <= names
    assert {f"deit-{s}.py" for s in "tsb"} | {f"ppt_deit-{s}_r50_ftune.py" for s in "tsb"} <= names
    assert all(any(name.startswith(f"{m}_deit-s") for name in names) for m in methods + off_the_shelf)
    assert {
        f"cropr/imagenet/{m}_imagenet.py"
        for m in ("vit-l", "vit-l-cropr", "vit-l-cropr_no-fusion", "vit-b-cropr", "vit-l-cropr_3-sites", "deit-s-cropr")
    } <= names
    assert {f"cropr/cifar10/deit-nano-cropr{m}_cifar10.py" for m in ("", "_no-fusion", "_random")} <= names


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.relative_to(ROOT / "configs").as_posix())
def test_config(path, images, tmp_path):
    torch.manual_seed(0)
    cfg = Config.fromfile(path)
    check_config(cfg)
    init_default_scope(cfg.default_scope)
    assert cfg.train_dataloader.dataset.data_root == cfg.test_dataloader.dataset.data_root
    slim(cfg)
    with_teacher(cfg, tmp_path)
    for hook in cfg.custom_hooks:
        HOOKS.build(hook)
    model = MODELS.build(cfg.model)
    fp32 = {k: v for k, v in cfg.optim_wrapper.items() if k not in ("loss_scale", "dtype")} | dict(type="OptimWrapper")
    optimizer = build_optim_wrapper(model, fp32)
    groups = {g["weight_decay"] for g in optimizer.param_groups}
    assert groups == {0, cfg.optim_wrapper.optimizer.weight_decay}

    data = model.data_preprocessor(batch(cfg.train_dataloader, images), True)
    assert data["inputs"].shape[0] == 2 and tuple(data["inputs"].shape[2:]) == model.backbone.patch_embed.img_size
    total, logged = model.parse_losses(model.train()(**data, mode="loss"))
    total.backward()
    assert total.isfinite()
    reducer = model.backbone.reducer
    assert isinstance(reducer, Reducer) == (cfg.model.backbone.get("reducer") is not None)
    assert reducer is None or all(p.grad is not None for p in reducer.parameters())
    if reducer is not None and reducer.needs_training and list(reducer.parameters()):
        assert all(logged[name] > 0 for name in logged if name.startswith(("loss_ratio", "loss_aux")))
        assert any(name.startswith(("loss_ratio", "loss_aux")) for name in logged)
        assert any(name.startswith("keep_ratio.") for name in logged)
    if cfg.model.get("distillation"):
        assert any(name.startswith("loss_distill") for name in logged)

    data = model.data_preprocessor(batch(cfg.test_dataloader, images), False)
    with torch.no_grad(), Trace() as trace:
        results = model.eval()(**data, mode="predict")
    assert all(r.pred_score.shape == (cfg.model.backbone.num_classes,) for r in results)
    assert all(r.pred_score.sum() == pytest.approx(1, abs=1e-4) for r in results)
    used = trace.passes[0].keep_ratio()
    assert used.shape == (2, len(model.backbone.blocks))
    assert (used < 1).any() == (reducer is not None)


DOCS = (ROOT / "docs" / "classification.md").read_text()
DOCUMENTED = re.findall(r"```python\n(_base_ = \"\./.*?)```", DOCS, re.DOTALL)


@pytest.mark.parametrize("text", DOCUMENTED)
def test_documented_config(text, tmp_path):
    (tmp_path / "mine.py").write_text(text.replace('"./', f'"{ROOT}/configs/deit/'))
    cfg = read_config(tmp_path / "mine.py")
    check_config(cfg)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    assert model.data_preprocessor.num_classes == cfg.model.backbone.num_classes
    if "distillation" in cfg.model:
        assert model.backbone.distilled_training and model.distillation.kind == "hard"
    else:
        roots = {cfg[f"{split}_dataloader"].dataset.data_root for split in ("train", "val", "test")}
        assert roots == {"data/pets/"} and model.backbone.head.out_features == 37 and cfg.test_evaluator.topk == (1,)


def test_there_are_documented_configs():
    assert len(DOCUMENTED) == 2
