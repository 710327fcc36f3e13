"""hosts.py at nano size: every form is a row, dense forms agree, bad options are one sentence."""

import json
import sys
from functools import partial

import pytest
import timm
import torch
from safetensors.torch import save_file
from scripts import load_script

from mmcv_custom.errors import ConfigError
from token_pruning import METHODS

NANO = dict(embed_dim=24, depth=4, num_heads=3, img_size=32, patch_size=8, num_classes=0)


@pytest.fixture
def tool(monkeypatch):
    tool = load_script("tools/benchmarks/hosts.py")
    build = partial(timm.create_model, "vit_small_patch14_dinov2", **NANO)
    reducers = {"MPM": dict(type="MPM", blocks=[1]), "ToMe": dict(type="ToMe", r=2)}
    monkeypatch.setattr(tool, "CASES", {"nano": tool.Case(build, (32, 32), reducers, weights=True)})
    return tool


def call(tool, monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["hosts.py", "--cases", "nano", *options])
    tool.main()


def test_every_form_is_a_row(tool, monkeypatch, tmp_path):
    torch.manual_seed(0)
    weights, out = tmp_path / "weights.safetensors", tmp_path / "rows.json"
    save_file(timm.create_model("vit_small_patch14_dinov2", **NANO).state_dict(), weights)
    call(tool, monkeypatch, "--rounds", "2", "--weights", str(weights), "--json", str(out))
    rows = {r["form"]: r for r in json.loads(out.read_text())}
    assert [*rows] == ["library", "dense", "MPM", "ToMe"] and {r["weights"] for r in rows.values()} == {"trained"}
    assert rows["library"]["gmacs"] == rows["dense"]["gmacs"] and rows["dense"]["speedup_vs_dense"] == 1
    for name in ("MPM", "ToMe"):
        assert rows[name]["reducer"]["type"] == name and rows[name]["fewer_gmacs"] > 1
        assert rows[name]["efficiency"] == pytest.approx(rows[name]["speedup_vs_dense"] / rows[name]["fewer_gmacs"])


def test_a_form_that_computes_something_else_is_an_error(tool):
    forms = [tool.Form("library", lambda image: image, None), tool.Form("dense", lambda image: image * 1.1, None)]
    with pytest.raises(RuntimeError, match="the dense form differs by 0.1 of the largest output"):
        tool._check_equal(forms, torch.ones(1, 3, 2, 2))


def test_bad_options_are_one_sentence(tool, monkeypatch, tmp_path):
    (tmp_path / "no.jpg").write_text("no image")
    with pytest.raises(ConfigError, match="no.jpg: "):
        call(tool, monkeypatch, "--rounds", "2", "--images", str(tmp_path / "no.jpg"))
    with pytest.raises(ConfigError, match="--rounds must be at least 2"):
        call(tool, monkeypatch, "--rounds", "1")
    for option in ("--images", "--weights"):
        with pytest.raises(ConfigError, match=f"{option} .*none.file does not exist"):
            call(tool, monkeypatch, option, str(tmp_path / "none.file"))


def test_cases_name_methods_that_exist():
    tool = load_script("tools/benchmarks/hosts.py")
    assert {r["type"] for case in tool.CASES.values() for r in case.reducers.values()} <= METHODS.keys()
