"""Small runs of the classification configs: dense, pruned from dense, resumed, and tested with their cost."""

import json
from pathlib import Path

import pytest
import torch
from scripts import run_tool

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "configs" / "deit" / "digits"
FEW = [
    "train_dataloader.batch_size=16",
    "train_dataloader.num_workers=0",
    "train_dataloader.dataset.indices=96",
    "val_dataloader.num_workers=0",
    "val_dataloader.batch_size=16",
    "val_dataloader.dataset.indices=40",
    "test_dataloader.num_workers=0",
    "test_dataloader.batch_size=16",
    "test_dataloader.dataset.indices=40",
    "default_hooks.logger.interval=1",
]


def run(*command, cwd, code=0):
    done = run_tool(*command, cwd=cwd, code=code)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Make a folder with the digits data set and a dense model trained for one epoch."""
    folder = tmp_path_factory.mktemp("project")
    run(ROOT / "tools/dataset_converters/digits.py", "data/digits", cwd=folder)
    run(
        ROOT / "tools/train.py",
        DIGITS / "deit-nano_digits.py",
        "--cfg-options",
        "train_cfg.max_epochs=1",
        *FEW,
        cwd=folder,
    )
    return folder


def logged(work_dir):
    lines = [
        json.loads(line)
        for file in sorted(Path(work_dir).rglob("scalars.json"))
        for line in file.read_text().splitlines()
    ]
    return [line for line in lines if "loss" in line]


def test_dense_to_pruned_resumed_and_tested(project):
    dense = "work_dirs/deit-nano_digits/epoch_1.pth"
    config = DIGITS / "svit_deit-nano_digits.py"
    options = ["--load-from", dense, "--cfg-options", "train_cfg.max_epochs=2", *FEW]
    said = run(ROOT / "tools/train.py", config, "--work-dir", "whole", *options, cwd=project)
    assert "missing backbone.reducer.selectors: 54 tensors, freshly initialised (a dense checkpoint)" in said
    steps = logged(project / "whole")
    assert len(steps) == 12 and all({"loss_ratio", "keep_ratio.3", "keep_ratio.11"} <= step.keys() for step in steps)

    run(
        ROOT / "tools/train.py",
        config,
        "--work-dir",
        "part",
        "--resume",
        "whole/epoch_1.pth",
        *options[2:],
        cwd=project,
    )
    assert len(logged(project / "part")) == 6
    whole, part = (
        torch.load(project / name / "epoch_2.pth", weights_only=False)["state_dict"] for name in ("whole", "part")
    )
    assert whole.keys() == part.keys() and all(torch.equal(whole[name], part[name]) for name in whole)

    found = {}
    for name, checkpoint in (("deit-nano_digits", dense), ("svit_deit-nano_digits", "whole/epoch_2.pth")):
        said = run(
            ROOT / "tools/test.py",
            DIGITS / f"{name}.py",
            checkpoint,
            "--eval",
            "top1",
            "top3",
            "--scores",
            "scores.json",
            "--show-dir",
            "shown",
            "--work-dir",
            "test",
            "--cfg-options",
            *FEW,
            cwd=project,
        )
        assert "GMACs an image" in said
        found[name] = json.loads((project / "scores.json").read_text())
    dense, pruned = found.values()
    assert (
        dense.keys()
        == pruned.keys()
        == {
            "accuracy/top1",
            "accuracy/top3",
            "cost/images_per_second",
            "cost/gmacs",
            "cost/gmacs_std",
            "cost/keep_ratio",
        }
    )
    assert pruned["cost/gmacs"] < dense["cost/gmacs"] == pytest.approx(0.0963, abs=1e-4)
    assert dense["cost/keep_ratio"] == [1] * 12 and pruned["cost/keep_ratio"][:3] == [1] * 3
    assert len(list((project / "shown").iterdir())) == 40


def test_an_exported_file_is_evaluated_like_its_model(project):
    config, scores = DIGITS / "tome_deit-nano_digits.py", []
    weights, file = "work_dirs/deit-nano_digits/epoch_1.pth", "tome.pt2"
    run(ROOT / "tools/export.py", config, weights, "--out", file, "--preprocess", "--dynamic", "batch", cwd=project)
    for model in (weights, file):
        command = (ROOT / "tools/test.py", config, model, "--scores", "scores.json", "--work-dir", "test")
        run(*command, "--cfg-options", *FEW, cwd=project)
        found = json.loads((project / "scores.json").read_text())
        scores.append({name: value for name, value in found.items() if name.startswith("accuracy/")})
    assert scores[0] == scores[1] and len(scores[0]) >= 1
    said = run(ROOT / "tools/test.py", config, file, "--compile", cwd=project, code=2)
    assert "--compile cannot change an exported file: export the model again" in said.splitlines()[-1]


def test_mistakes_end_with_one_sentence(project):
    config, checkpoint = DIGITS / "deit-nano_digits.py", "work_dirs/deit-nano_digits/epoch_1.pth"
    imagenet = ROOT / "configs" / "deit" / "deit-s.py"
    for command, sentence in [
        (["test.py", config, checkpoint, "--eval", "bbox"], "--eval bbox is not a metric of Accuracy: choose from"),
        (["test.py", imagenet, checkpoint], "data/imagenet/val/ does not exist: put the images there"),
        (["train.py", imagenet], "data/imagenet/train/ does not exist: put the images there"),
        (
            ["test.py", config, checkpoint, "--cfg-options", "model.backbone.model_name=deit_tinny_patch16_224"],
            "timm has no model 'deit_tinny_patch16_224': did you mean deit_tiny_patch16_224",
        ),
        (
            ["test.py", config, checkpoint, "--cfg-options", "model.backbone.num_classes=9"],
            "10 class folders and model.backbone.num_classes is 9",
        ),
        (["test.py", config, checkpoint, "--cfg-options", "model.backbone.img=9"], "unexpected keyword argument 'img'"),
    ]:
        said = run(ROOT / "tools" / command[0], *command[1:], "--work-dir", "mistake", cwd=project, code=2)
        assert sentence in said and "Traceback" not in said
