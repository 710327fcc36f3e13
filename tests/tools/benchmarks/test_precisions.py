"""precisions.py at nano size: every file is evaluated and timed beside eager PyTorch."""

import json
import sys

import pytest
import torch
from PIL import Image
from scripts import ROOT, load_script

from mmcv_custom.cli import subprocess_tools
from mmcv_custom.cli.launch import build_model, read_config
from mmcv_custom.data.synthetic import scene
from mmcv_custom.export import Traced, formats

CONFIGS = [str(ROOT / f"configs/deit/cifar10/{name}deit-nano_cifar10.py") for name in ("", "tome_")]
pytestmark = pytest.mark.filterwarnings("ignore:.*default scope")


@pytest.fixture
def arguments(tmp_path):
    for i in range(2):
        Image.fromarray(scene(40, 50, i)).save(tmp_path / f"{i}.png")
    torch.save(build_model(read_config(CONFIGS[0]), None).state_dict(), tmp_path / "weights.pth")
    return [str(tmp_path / "weights.pth"), *CONFIGS, "--images", str(tmp_path), "--runtimes", "onnx"]


def test_every_file_is_evaluated_and_timed(monkeypatch, tmp_path, arguments, capsys):
    pytest.importorskip("onnxscript", reason="format onnx needs it: pip install -e .[export]")
    tool, evaluated = load_script("tools/benchmarks/precisions.py"), []

    def test(script, config, model, *options):
        evaluated.append((script.name, config, model.rpartition(".")[2], options[-2:]))
        file = options[options.index("--scores") + 1]
        file.write_text(json.dumps({"accuracy/top1": 50.0 + len(evaluated)}))

    monkeypatch.setattr(subprocess_tools, "call", test)
    out, some = tmp_path / "rows.json", ["--precisions", "fp32", "int8", "--test-images", "7", "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", ["precisions.py", *arguments, *some, "--json", str(out)])
    tool.main()
    rows = json.loads(out.read_text())
    forms = ["eager fp32", "onnx fp32", "onnx int8"]
    assert [r["form"] for r in rows] == [f"{word}, {form}" for word in ("dense", "ToMe") for form in forms]
    assert [r["top1"] for r in rows] == [51, 52, 53, 54, 55, 56] and rows[0]["speedup_vs_eager_dense"] == 1
    few = ("--cfg-options", "test_dataloader.dataset.indices=7")
    assert evaluated == [("test.py", config, kind, few) for config in CONFIGS for kind in ("pth", "onnx", "onnx")]
    assert rows[2]["megabytes"] < rows[1]["megabytes"] and rows[4]["gmacs"] < rows[1]["gmacs"] == rows[0]["gmacs"]
    assert "ToMe, onnx int8" in capsys.readouterr().out


def test_no_file_at_all_is_an_error(monkeypatch, arguments, capsys):
    tool = load_script("tools/benchmarks/precisions.py")

    def refuse(*args, **options):
        raise tool.ConfigError("no package")

    monkeypatch.setattr(formats, "find_spec", lambda name: True)
    monkeypatch.setattr(Traced, "write", refuse)
    monkeypatch.setattr(sys, "argv", ["precisions.py", *arguments])
    with pytest.raises(tool.ConfigError, match="no file of .*deit-nano_cifar10.py could be made"):
        tool.main()
    assert "deit-nano_cifar10-int8-onnx is left out: no package" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["precisions.py", *arguments, "--rounds", "1"])
    with pytest.raises(tool.ConfigError, match="--rounds must be at least 2"):
        tool.main()
