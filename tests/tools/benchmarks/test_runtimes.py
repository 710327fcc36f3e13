"""runtimes.py at nano size: every form runs, dense forms agree, a missing runtime is named."""

import json
import sys

import pytest
import torch
from scripts import load_script

from mmcv_custom import ConfigError

NANO = dict(embed_dim=48, depth=4, num_heads=3, img_size=32)


@pytest.fixture
def tool(monkeypatch):
    tool = load_script("tools/benchmarks/runtimes.py")
    cases = {
        "logits": tool.Case("deit_small_patch16_224", (32, 32), 2, dict(type="ToMe", r=1), NANO),
        "map": tool.Case(
            "vit_small_patch16_224",
            (32, 48),
            1,
            dict(type="SViT", mode="ratio", keep_ratio=0.5),
            dict(NANO, img_size=(32, 48), num_classes=0, global_pool=""),
        ),
    }
    monkeypatch.setattr(tool, "CASES", cases)
    # Compiling for minutes is torch's matter; that pruned models compile is tested in tests/token_pruning.
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    return tool


def test_every_form_is_a_row_and_dense_forms_agree(tool, monkeypatch, tmp_path, capsys):
    out = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["runtimes.py", "--cases", "logits", "map", "--rounds", "2", "--json", str(out)])
    tool.main()
    rows = json.loads(out.read_text())
    assert {r["weights"] for r in rows} == {"random"} and {r["case"] for r in rows} == {"logits", "map"}
    for case, method in (("logits", "ToMe"), ("map", "SViT")):
        own = {r["form"]: r for r in rows if r["case"] == case}
        assert {"timm", "torch.compile", "dense, eager", f"{method}, compiled"} <= own.keys()
        assert own["timm"]["speedup_vs_timm"] == 1 and own["timm"]["difference"] == 0
        assert own[f"{method}, eager"]["gmacs"] < own["timm"]["gmacs"]
        assert own[f"{method}, eager"]["difference"] is None
    said = capsys.readouterr()
    for name, package in (("ONNX Runtime", "onnxruntime"), ("OpenVINO", "openvino")):
        there = name in {r["form"] for r in rows}
        assert there != (f"Note: {name} is left out, because {package} is missing" in said.err)


def test_a_form_that_computes_something_else_is_an_error(tool):
    with pytest.raises(RuntimeError, match="b differs by 0.5 of the largest output from a"):
        tool.largest_difference({"a": lambda: torch.tensor([1.0, 2.0]), "b": lambda: [torch.tensor([1.0, 1.0])]})


def test_too_few_rounds_are_refused(tool, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["runtimes.py", "--rounds", "1"])
    with pytest.raises(ConfigError, match="--rounds must be at least 2"):
        tool.main()
