"""tools/export.py from its command line, and the README's three lines of deployment."""

import os
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scripts import ROOT, load_script

from mmcv_custom import ConfigError
from mmcv_custom.cli.launch import run
from mmcv_custom.data.synthetic import scene
from mmcv_custom.export import ExportedModel

CLASSIFIER = str(ROOT / "configs/deit/cifar10/deit-nano_cifar10.py")
pytestmark = pytest.mark.filterwarnings("ignore:.*random weights", "ignore:.*default scope")


def call(monkeypatch, script, *arguments):
    """Run a script of the checkout in this process."""
    tool = load_script(script)
    monkeypatch.setattr(sys, "argv", [Path(script).name, *map(str, arguments)])
    tool.main()


def test_images_of_a_folder_are_compared(monkeypatch, tmp_path, capsys):
    for i in range(3):
        Image.fromarray(scene(40, 50, i)).save(tmp_path / f"{i}.png")
    out = tmp_path / "made" / "a.pt2"
    call(monkeypatch, "tools/export.py", CLASSIFIER, "none", "--out", out, "--images", tmp_path, "--batch", 1)
    assert "differs from PyTorch by probabilities" in capsys.readouterr().out
    metadata = ExportedModel(out).metadata
    assert metadata["classes"] == [] and "'default_scope': 'mmpretrain'" in metadata["config"]
    assert metadata["normalisation"]["channels"] == "RGB" and metadata["preprocessed"] is False
    assert sorted(file.name for file in out.parent.iterdir()) == ["a.pt2"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--out", "a.txt"], "has the suffix of no format"),
        (["--out", "a.pt2", "--precision", "fp16"], "has no tool for fp16"),
        (["--out", "a.pt2", "--shape", "64", "64"], "takes images of 32 x 32 pixels only"),
        (["--out", "a.pt2", "--shape", "0", "64"], "a shape of 0 x 64 pixels is not possible"),
        (["--out", "a.pt2", "--batch", "0"], "a batch of 0 images is not possible"),
        (["--out", "a.pt2", "--ratio", "0.5"], "has no reducer"),
        (["--out", "a.pt2", "--images", "nowhere"], "folder nowhere does not exist"),
        (["--out", "there.pt2"], "exists: give another name"),
    ],
)
def test_mistakes_end_with_one_sentence(monkeypatch, tmp_path, capsys, options, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.pt2").touch()
    tool = load_script("tools/export.py")
    monkeypatch.setattr(sys, "argv", ["export.py", CLASSIFIER, "none", *options])
    with pytest.raises(SystemExit) as end:
        run(tool.main)
    said = capsys.readouterr().err.strip().splitlines()
    assert end.value.code == 2 and sentence in said[-1] and os.listdir(tmp_path) == ["there.pt2"]


def test_the_lines_of_the_readme(monkeypatch, tmp_path, capsys):
    for module in ("onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason="the README exports to ONNX: pip install -e .[export]")
    section = (ROOT / "README.md").read_text().split("## Deploy\n")[1].split("\n## ")[0]
    lines = re.search(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[1].splitlines()
    monkeypatch.chdir(tmp_path)
    Image.fromarray(scene(32, 32)).save(tmp_path / "image.png")
    words = dict(CONFIG=CLASSIFIER, CHECKPOINT="none", IMAGE="image.png")
    assert len(lines) == 3
    for line in lines:
        program, *arguments = (words.get(word, word) for word in shlex.split(line, comments=True))
        assert program == "python"
        if arguments[0] == "-c":
            exec(arguments[1].replace("'IMAGE'", "'image.png'"))
        else:
            call(monkeypatch, *arguments)
    assert (tmp_path / "demo/image.jpg").exists() and (tmp_path / "model.onnx").exists()
    assert "<Classification of image.png, 32 x 32 pixels: " in capsys.readouterr().out


def test_a_config_without_a_checkpoint_is_named(monkeypatch, tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "image.png")
    with pytest.raises(ConfigError, match="comes without a checkpoint: give one"):
        call(monkeypatch, "image_demo.py", tmp_path / "image.png", CLASSIFIER, "--out", tmp_path / "demo")
