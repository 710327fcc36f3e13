"""Small runs of the CamVid configs: converted, trained dense and pruned, resumed, evaluated and drawn.

Trainings are counted in epochs or in iterations; a label that is not a class ends a run with one sentence.
"""

import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from scripts import load_script, run_tool

from mmcv_custom import ConfigError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs" / "segmentation"
# As small as the token counts of the configs allow.
SMALL = [
    "default_hooks.logger.interval=1",
    "train_dataloader.batch_size=2",
    "train_dataloader.num_workers=0",
    "val_dataloader.num_workers=0",
    "test_dataloader.num_workers=0",
    "train_cfg.val_interval=2",
]


def run(script, *arguments, cwd, code=None):
    return run_tool(f"tools/{script}", *arguments, cwd=cwd, code=code)


def well(*arguments, cwd):
    done = run(*arguments, cwd=cwd, code=0)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Make a folder with four simple street scenes in the layout of the configs: sky above, void, road below."""
    folder = tmp_path_factory.mktemp("project")
    for split in ("train", "val"):
        for name in (split, f"{split}annot"):
            (folder / "src" / name).mkdir(parents=True)
        for i in range(2):
            labels = np.zeros((240, 320), np.uint8)
            labels[100 + 20 * i :], labels[90:100] = 3, 11
            image = np.stack([np.where(labels == 3, 70, 220)] * 3, 2)
            image = (image + np.random.default_rng(i).integers(-9, 9, image.shape)).astype(np.uint8)
            Image.fromarray(image).save(folder / "src" / split / f"{i}.jpg")
            Image.fromarray(labels).save(folder / "src" / f"{split}annot" / f"{i}.png")
    well("dataset_converters/camvid.py", "src", "data/camvid", cwd=folder)
    return folder


def scalars(work_dir):
    files = Path(work_dir).rglob("scalars.json")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_dense_then_pruned_then_evaluated_and_drawn(project):
    dense = CONFIGS / "vit-nano_linear_camvid-352.py"
    well("train.py", dense, "--cfg-options", *SMALL, "train_cfg.max_epochs=2", cwd=project)
    weights = project / "work_dirs/vit-nano_linear_camvid-352/epoch_2.pth"
    assert any("mIoU" in line for line in scalars(weights.parent))
    pruned = CONFIGS / "vit-nano-svit_linear_camvid-352.py"
    said = well(
        "train.py", pruned, "--load-from", weights, "--cfg-options", *SMALL, "train_cfg.max_epochs=1", cwd=project
    )
    assert "missing backbone.reducer.selectors" in said and "freshly initialised (a dense checkpoint)" in said
    logged = scalars(project / "work_dirs" / pruned.stem)[0]
    assert logged["loss_ratio"] > 0 and 0 < logged["keep_ratio.5"] < 1
    curve = [line for line in scalars(project / "work_dirs" / pruned.stem) if "cost/keep_ratio.5" in line]
    assert [line["step"] for line in curve] == [1] and 0 < curve[0]["cost/keep_ratio.5"] < 1
    sheets = [file.name for file in (project / "work_dirs").rglob("vis_image/tokens_*.png")]
    assert sorted(sheets) == ["tokens_1_1.png", "tokens_2_1.png"]  # none of the dense model
    said = well(
        "test.py",
        pruned,
        project / "work_dirs" / pruned.stem / "epoch_1.pth",
        "--eval",
        "mIoU",
        "mFscore",
        "--show-dir",
        "drawn",
        "--out",
        "labels.pkl",
        "--scores",
        "scores.json",
        "--cfg-options",
        *SMALL,
        cwd=project,
    )
    assert "sign/symbol" in said
    scores = json.loads((project / "scores.json").read_text())
    assert 0 <= scores["mIoU"] <= 100 and "mFscore" in scores
    assert len(list((project / "drawn").glob("tokens_*.png"))) == 2
    drawn = sorted((project / "drawn").glob("test_*.png"))
    assert len(drawn) == 2 and Image.open(drawn[0]).size == (640, 240)  # labels and prediction side by side
    dumped = pickle.loads((project / "labels.pkl").read_bytes())
    assert [tuple(sample["pred_sem_seg"]["data"].shape) for sample in dumped] == [(1, 240, 320)] * 2


@pytest.mark.parametrize("method", ["tome", "ppt", "random"])
def test_reducers_without_parameters_need_no_training(project, method):
    dense = CONFIGS / "vit-nano_linear_camvid-352.py"
    weights = project / "work_dirs/vit-nano_linear_camvid-352/epoch_2.pth"
    if not weights.exists():
        well("train.py", dense, "--cfg-options", *SMALL, "train_cfg.max_epochs=2", cwd=project)
    well(
        "test.py",
        CONFIGS / f"vit-nano-{method}_linear_camvid-352.py",
        weights,
        "--scores",
        f"{method}.json",
        "--cfg-options",
        *SMALL,
        cwd=project,
    )
    scores = json.loads((project / f"{method}.json").read_text())
    scores = {name: score for name, score in scores.items() if not name.startswith("cost/")}
    assert set(scores) == {"aAcc", "mIoU", "mAcc"} and all(0 <= score <= 100 for score in scores.values())


def test_cropr_trains_by_its_curriculum_and_predicts_the_same_when_folded(project):
    config = CONFIGS.parent / "cropr/camvid/eva02-nano-cropr_linear_camvid-352.py"
    well("train.py", config, "--cfg-options", *SMALL, "train_cfg.max_epochs=3", cwd=project)
    weights = project / "work_dirs" / config.stem / "epoch_3.pth"
    logged = [line for line in scalars(weights.parent) if "loss_aux.3" in line]
    assert [line["keep_ratio.3"] for line in logged] == pytest.approx([1, 0.1, 0.1], abs=1e-3)
    assert all(line[f"loss_aux.{block}"] > 0 for line in logged for block in range(4))
    (project / "resumed").mkdir()
    shutil.copy(weights.with_name("epoch_1.pth"), project / "resumed")
    well(
        "train.py",
        config,
        "--work-dir",
        "resumed",
        "--resume",
        "--cfg-options",
        *SMALL,
        "train_cfg.max_epochs=3",
        cwd=project,
    )
    whole, resumed = (
        torch.load(folder / "epoch_3.pth", weights_only=False)["state_dict"]
        for folder in (weights.parent, project / "resumed")
    )
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    said = well("model_converters/fold_cropr.py", config, weights, "folded.pth", cwd=project)
    assert "outputs equal" in said
    slide = ["model.test_cfg.mode=slide", "model.test_cfg.crop_size=(160,160)", "model.test_cfg.stride=(107,107)"]
    for name, file, *more in (
        ("whole", weights),
        ("folded", "folded.pth", "model.backbone.reducer.folded=True"),
        ("slide", weights, *slide),
    ):
        well("test.py", config, file, "--scores", f"{name}.json", "--cfg-options", *SMALL, *more, cwd=project)
    scores = [json.loads((project / f"{name}.json").read_text()) for name in ("whole", "folded", "slide")]
    for found in scores:
        del found["cost/images_per_second"]
    assert scores[0] == scores[1] and 0 <= scores[2]["mIoU"] <= 100


def test_segvit_trains_and_confident_tokens_exit(project):
    dense = CONFIGS.parent / "segvit/vit-nano_segvit_camvid-352.py"
    well("train.py", dense, "--cfg-options", *SMALL, "train_cfg.max_epochs=1", cwd=project)
    weights = project / "work_dirs" / dense.stem / "epoch_1.pth"
    pruned, sure = dense.with_name("vit-nano-dtop_segvit_camvid-352.py"), "model.backbone.reducer.threshold=0.05"
    well(
        "train.py", pruned, "--load-from", weights, "--cfg-options", *SMALL, "train_cfg.max_epochs=1", sure, cwd=project
    )
    logged = scalars(project / "work_dirs" / pruned.stem)[0]
    assert 0 < logged["keep_ratio.3"] <= logged["keep_ratio.2"] < 1
    assert {"decode.loss_mask", "aux_0.loss_ce", "aux_1.loss_dice"} <= logged.keys()
    well("test.py", pruned, weights, "--scores", "dtop.json", "--cfg-options", *SMALL, sure, cwd=project)
    assert 0 <= json.loads((project / "dtop.json").read_text())["mIoU"] <= 100
    said = well(
        "test.py",
        pruned,
        weights,
        "--tta",
        "--scores",
        "tta.json",
        "--out",
        "tta.pkl",
        "--show-dir",
        "views",
        "--cfg-options",
        *SMALL,
        sure,
        "tta_model.average=softmax",
        cwd=project,
    )
    assert re.search(r"loaded (\d+) of the model's \1 tensors", said)
    assert 0 <= json.loads((project / "tta.json").read_text())["mIoU"] <= 100
    dumped = pickle.loads((project / "tta.pkl").read_bytes())
    assert [tuple(sample["pred_sem_seg"]["data"].shape) for sample in dumped] == [(1, 240, 320)] * 2
    assert len(list((project / "views").glob("test_*.png"))) == 2


@pytest.fixture(scope="module")
def tool():
    return load_script("tools/test.py")


def test_views_load_labels_as_the_test_pipeline_does(tool):
    cfg = Config.fromfile(CONFIGS / "vit-nano_linear_camvid-352.py")
    flips, scales, labels, pack = tool.with_labels(cfg.tta_pipeline, cfg.test_pipeline)[1]["transforms"]
    assert labels == [dict(type="LoadAnnotations", num_classes=11)] and (len(flips), len(scales)) == (2, 6)
    without = [step for step in cfg.test_pipeline if step.type != "LoadAnnotations"]
    assert tool.with_labels(cfg.tta_pipeline, without)[1]["transforms"] == [flips, scales, pack]


@pytest.mark.parametrize("config", ["mask_rcnn/vit-adapter-t-3x.py", "deit/deit-t.py"])
def test_configs_without_tta_are_refused(tool, config):
    with pytest.raises(ConfigError, match="--tta needs tta_model and tta_pipeline in the config"):
        tool.augment(Config.fromfile(CONFIGS.parent / config))


def test_a_run_counted_in_iterations_resumes(project):
    """Train an ADE20K config with a small model on the street scenes."""
    ade = CONFIGS / "vit-s_linear_ade20k-512.py"
    nano = [
        "model.backbone.depth=2",
        "model.backbone.embed_dim=48",
        "model.backbone.num_heads=3",
        "model.backbone.init_cfg=None",
        "model.decode_head.in_channels=48",
        "model.decode_head.channels=48",
    ]
    data = []
    for split, folder in (("train", "train"), ("val", "val"), ("test", "val")):
        prefix = f"{split}_dataloader.dataset."
        data += [
            f"{prefix}data_root=data/camvid",
            f"{prefix}data_prefix.img_path=images/{folder}",
            f"{prefix}data_prefix.seg_map_path=labels/{folder}",
            f"{prefix}img_suffix=.png",
            f"{prefix}reduce_zero_label=False",
        ]
    small = [
        "model.data_preprocessor.size=(128,128)",
        "train_dataloader.dataset.pipeline.2.scale=(512,128)",
        "train_dataloader.dataset.pipeline.3.crop_size=(128,128)",
        "val_dataloader.dataset.pipeline.1.scale=(512,128)",
    ]
    workers = ["train_dataloader.num_workers=0", "val_dataloader.num_workers=0", "train_dataloader.batch_size=1"]
    options = [
        "--work-dir",
        "counted",
        "--cfg-options",
        *nano,
        *data,
        *small,
        *workers,
        "train_cfg.val_interval=2",
        "default_hooks.logger.interval=1",
        "default_hooks.checkpoint.interval=2",
    ]
    well("train.py", ade, *options, "train_cfg.max_iters=2", cwd=project)
    well("train.py", ade, "--resume", *options, "train_cfg.max_iters=4", cwd=project)
    steps = [line["step"] for line in scalars(project / "counted") if "loss" in line]
    assert sorted(steps) == [1, 2, 3, 4]


@pytest.mark.parametrize("tool", ["train.py", "test.py"])
def test_a_label_that_is_no_class_is_one_sentence_before_anything_is_built(project, tool):
    (project / "broken").mkdir(exist_ok=True)
    Image.new("L", (320, 240), 12).save(project / "broken" / "0.png")
    Image.new("L", (320, 240), 0).save(project / "broken" / "1.png")
    (project / "none.pth").write_bytes(b"")
    split, more = ("train", []) if tool == "train.py" else ("test", ["none.pth"])
    done = run(
        tool,
        CONFIGS / "vit-nano_linear_camvid-352.py",
        *more,
        "--work-dir",
        "never",
        "--cfg-options",
        f"{split}_dataloader.dataset.data_prefix.seg_map_path=../../broken",
        cwd=project,
    )
    assert done.returncode == 2 and not (project / "never").exists()
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"{tool}: label map ") and "0.png has label 12 and there are 11 classes" in last


def test_metrics_that_segmentation_does_not_have(project):
    (project / "none.pth").write_bytes(b"")
    done = run("test.py", CONFIGS / "vit-nano_linear_camvid-352.py", "none.pth", "--eval", "bbox", cwd=project)
    assert done.returncode == 2
    assert "--eval bbox is not a metric of IoUMetric: choose from mIoU, mDice, mFscore" in done.stderr
