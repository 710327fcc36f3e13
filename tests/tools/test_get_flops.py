"""The counting tool: its parts add up, the blocks obey the closed formula, and a wrong count is said."""

import importlib.util
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from mmcv_custom.launch import run
from mmcv_custom.speed import counting
from mmcv_custom.speed.samples import scene
from token_pruning import PlainViT

ROOT = Path(__file__).resolve().parents[2]
TOOL = "tools/analysis_tools/get_flops.py"
PRUNED = "configs/quickstart/digits_svit-adapter-nano.py"


def test_rows_and_table_over_pictures_of_two_sizes(tmp_path):
    from PIL import Image

    for size in (128, 256):
        Image.fromarray(scene(size, 256)).save(tmp_path / f"{size}.png")
    options = ["--images", str(tmp_path), "--device", "cpu", "--json", str(tmp_path / "rows.json")]
    done = subprocess.run([sys.executable, TOOL, PRUNED, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "multiply-add = 2" in done.stdout and "closed formula" in done.stdout
    row, = json.loads((tmp_path / "rows.json").read_text())
    assert row["pictures"] == 2 and row["gflops_std"] > 0 and abs(row["formula_deviation"]) < 1e-6
    assert sum(row["gflops_by_part"].values()) == pytest.approx(row["gflops"])
    assert sum(row["gflops_by_operator"].values()) == pytest.approx(row["gflops"])
    assert all(row["gflops_by_part"][part] > 0 for part in counting.PARTS)


@pytest.mark.parametrize("windows", [None, [True, False, True]], ids=["global", "windows"])
def test_blocks_obey_the_closed_formula_image_by_image(windows):
    reducer = dict(type="SViT", blocks=[1], keep_ratio=0.5, mode="threshold")
    vit = PlainViT(img_size=32, embed_dim=24, depth=3, num_heads=2, window_attn=windows, window_size=3,
                   reducer=reducer).eval()
    vit.forward = partial(_forward, vit)  # called as a detector calls its backbone
    found = counting.count(partial(vit, torch.randn(2, 3, 64, 112)), vit)
    assert found.formula == found.parts["blocks"] > 0
    assert found.parts["selectors"] > 0 and sum(found.parts.values()) == found.total
    assert found.tokens.shape == (2, 3) and found.positions == 28


def _forward(vit, image):
    stack = vit.start(image)
    stack.run(0, 2)
    return stack.finish()


def run_here(monkeypatch, *options):
    spec = importlib.util.spec_from_file_location("get_flops", ROOT / TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(sys, "argv", ["get_flops.py", PRUNED, "--device", "cpu", *options])
    monkeypatch.chdir(ROOT)
    run(tool.main)


def test_a_count_that_breaks_the_formula_ends_with_an_error(monkeypatch):
    monkeypatch.setattr(counting, "block_flops", lambda n, dim, ratio, left: 1000 * n)
    with pytest.raises(SystemExit, match="closed formula"):
        run_here(monkeypatch, "--shape", "64", "64")


@pytest.mark.parametrize(("options", "sentence"), [
    (["--checkpoint", "a", "b"], "2 files for 1 configs"), (["--number", "0"], "--number must be at least 1"),
    (["--checkpoint", "nowhere.pth"], "nowhere.pth"),
])
def test_a_wrong_option_ends_with_one_sentence(monkeypatch, capsys, options, sentence):
    with pytest.raises(SystemExit) as end:
        run_here(monkeypatch, *options)
    assert end.value.code == 2 and sentence in capsys.readouterr().err.splitlines()[-1]
