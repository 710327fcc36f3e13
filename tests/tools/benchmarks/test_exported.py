"""exported.py at nano size: every form is a row, a file that cannot be made is named."""

import json
import sys

import pytest
import torch
from scripts import load_script

from mmcv_custom import ConfigError

NANO = dict(embed_dim=48, depth=2, num_heads=3, img_size=32)


@pytest.fixture
def tool(monkeypatch):
    tool = load_script("tools/benchmarks/exported.py")
    methods = {"EViT": dict(type="EViT", keep_ratio=0.5, blocks=[0])}
    monkeypatch.setattr(tool, "CASES", {"nano": tool.Case("deit_small_patch16_224", (32, 32), methods, NANO, 2)})
    # Compiling for minutes is torch's matter.
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    return tool


def test_every_form_is_a_row(tool, monkeypatch, tmp_path):
    pytest.importorskip("onnxscript", reason="format onnx needs it: pip install -e .[export]")
    out = tmp_path / "rows.json"
    options = ["--cases", "nano", "--rounds", "2", "--runtimes", "torch.compile", "onnx", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["exported.py", *options])
    tool.main()
    rows = {r["form"]: r for r in json.loads(out.read_text())}
    assert [*rows] == [f"{word}, {way}" for word in ("dense", "EViT") for way in ("eager", "torch.compile", "onnx")]
    assert rows["dense, eager"]["speedup_vs_eager_dense"] == 1 and rows["dense, onnx"]["difference"] < 1e-3
    assert rows["EViT, onnx"]["gmacs"] < rows["dense, onnx"]["gmacs"]
    assert rows["EViT, onnx"]["reducer"]["type"] == "EViT" and rows["dense, onnx"]["reducer"] is None
    assert "speedup_vs_same_runtime_dense" in rows["EViT, onnx"]


def test_a_file_that_cannot_be_made_is_named(tool, monkeypatch, capsys, tmp_path):
    def refuse(*args, **options):
        raise ConfigError("no compiler")

    monkeypatch.setattr(tool.Traced, "write", refuse)
    forms = tool.forms_of(tool.CASES["nano"], ["aoti"], tmp_path)
    assert [form.runtime for form in forms] == ["eager", "eager"]
    assert "Note: dense-aoti is left out: no compiler" in capsys.readouterr().err


def test_too_few_rounds_are_refused(tool, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["exported.py", "--rounds", "1"])
    with pytest.raises(ConfigError, match="--rounds must be at least 2"):
        tool.main()
