"""get_flops.py: its parts add up, the blocks agree with the closed formula, and a wrong count is reported."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from scripts import load_script, run_tool

from mmcv_custom.benchmark import BenchmarkCase, BenchmarkSession, BenchmarkSettings, flops
from mmcv_custom.cli.launch import run
from mmcv_custom.data.synthetic import scene
from token_pruning import PlainViT

ROOT = Path(__file__).resolve().parents[3]
TOOL = "tools/analysis_tools/get_flops.py"
PRUNED = "configs/quickstart/digits_svit-adapter-nano.py"


def test_rows_and_table_over_images_of_two_sizes(tmp_path):
    from PIL import Image

    for size in (128, 256):
        Image.fromarray(scene(size, 256)).save(tmp_path / f"{size}.png")
    options = ["--images", str(tmp_path), "--device", "cpu", "--json", str(tmp_path / "rows.json")]
    done = run_tool(TOOL, PRUNED, *options, cwd=ROOT, code=0)
    assert "a multiply-add is 1" in done.stdout and "closed formula" in done.stdout
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["num_images"] == 2 and row["gmacs_std"] > 0 and abs(row["formula_deviation"]) < 1e-6
    assert sum(row["gmacs_by_part"].values()) == pytest.approx(row["gmacs"])
    assert sum(row["gmacs_by_operator"].values()) == pytest.approx(row["gmacs"])
    assert all(row["gmacs_by_part"][part] > 0 for part in flops.PARTS)


@pytest.mark.parametrize("windows", [None, [True, False, True]], ids=["global", "windows"])
def test_blocks_obey_the_closed_formula_image_by_image(windows):
    reducer = dict(type="SViT", blocks=[1], keep_ratio=0.5, mode="threshold")
    vit = PlainViT(
        img_size=32, embed_dim=24, depth=3, num_heads=2, window_attn=windows, window_size=3, reducer=reducer
    ).eval()
    vit.forward = partial(_forward, vit)  # called as a detector calls its backbone
    found = flops.count(partial(vit, torch.randn(2, 3, 64, 112)), vit)
    assert found.formula == found.parts["blocks"] > 0
    assert found.parts["reducer"] > 0 and sum(found.parts.values()) == found.total
    assert found.tokens.shape == (2, 3) and found.positions == 28


@pytest.mark.parametrize("name", ["eva02_base_patch14_224", "eva02_tiny_patch14_224", "vit_small_patch16_dinov3"])
def test_blocks_of_timms_models_obey_the_closed_formula(name):
    vit = PlainViT(
        img_size=32,
        patch_size=16,
        embed_dim=24,
        depth=3,
        num_heads=2,
        model_name=name,
        reducer=dict(type="Cropr", keep_ratio=0.5, fusion=False),
    ).eval()
    vit.forward = partial(_forward, vit)
    found = flops.count(partial(vit, torch.randn(2, 3, 64, 112)), vit)
    prefix = vit.num_prefix_tokens
    assert found.formula == found.parts["blocks"]
    assert found.tokens.tolist() == [[28 + prefix, 21 + prefix, 14 + prefix]] * 2
    assert found.parts["reducer"] == 2 * 24 * 2 * (28 + 21 + 2 * prefix)


def test_smaller_windows_obey_the_closed_formula():
    reducer = dict(type="CubistMerge", r=(1, 2), block=1, window_size=5)
    windows = dict(window_attn=[True, False, True], window_size=5)
    vit = PlainViT(img_size=32, embed_dim=24, depth=3, num_heads=2, reducer=reducer, **windows).eval()
    vit.forward = partial(_forward, vit)
    found = flops.count(partial(vit, torch.randn(2, 3, 112, 128)), vit)
    assert found.formula == found.parts["blocks"] > 0 and found.tokens.tolist() == [[56, 25, 25]] * 2


def test_larger_patches_are_a_part_of_the_reducer():
    reducer = dict(type="APT", thresholds=5.0, then=dict(type="ToMe", r=3))
    vit = PlainViT(img_size=64, embed_dim=24, depth=3, num_heads=2, reducer=reducer).eval()
    vit.forward = partial(_forward, vit)
    images = torch.randn(2, 3, 64, 64)
    images[0, :, :32, :32] = 0
    found = flops.count(partial(vit, images), vit)
    assert found.formula == found.parts["blocks"] and found.tokens.tolist() == [[13, 10, 7], [16, 13, 10]]
    assert found.parts["reducer"] > 2 * (16 * 16 * 3 * 24 + 4 * 24 * 24 + 24 * 24)
    assert sum(found.parts.values()) == found.total


@pytest.mark.parametrize(
    "reducer, macs",
    [
        (dict(type="ToMe", r=5, blocks=[0]), 14 * 14 * 12),  # 28 tokens, half against half, in 12 channels of a head
        (dict(type="PiToMe", keep_ratio=0.82, blocks=[0]), 28 * 28 * 12),
        (dict(type="MPM", blocks=[1]), 28 * 28 * 24),
        (dict(type="ALGM", threshold=None, blocks=[0, 1]), 14 * 14 * 24),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_computation_of_the_reducer_is_a_separate_part(reducer, macs):
    vit = PlainViT(img_size=32, embed_dim=24, depth=3, num_heads=2, reducer=reducer).eval()
    vit.forward = partial(_forward, vit)
    found = flops.count(partial(vit, torch.randn(2, 3, 64, 112)), vit)
    assert found.parts["reducer"] == 2 * (2 * macs)
    assert found.formula == found.parts["blocks"] and sum(found.parts.values()) == found.total
    tokens = found.tokens.tolist()
    assert all(first == 28 and last < 28 for first, _, last in tokens)
    assert reducer["type"] not in ("ToMe", "PiToMe") or tokens == [[28, 23, 23]] * 2
    assert not {"after_attention", "enter_block"} & {*vars(vit.reducer)}  # counting leaves no hook behind


TIMM = ["ppt", "tome", "mpm", "pitome", "algm", "repshift", "evit", "evovit", "random", "svit"]


@pytest.mark.parametrize(
    "config",
    [
        *(f"deit/digits/{name}_deit-nano_digits.py" for name in TIMM),
        "segmentation/vit-nano-ppt_linear_camvid-352.py",
        "segmentation/vit-nano-tome_linear_camvid-352.py",
    ],
)
@pytest.mark.parametrize("part", ["net", "backbone"])
def test_every_task_obeys_the_closed_formula(config, part):
    shape = (128, 256) if "segmentation" in config else None
    session = BenchmarkSession(
        BenchmarkCase(str(ROOT / "configs" / config), batch=2, shape=shape), BenchmarkSettings(part=part, repeats=2)
    )
    (found,) = session.counts
    assert found.formula == found.parts["blocks"] and sum(found.parts.values()) == found.total
    assert found.positions == 1 + (128 if shape else 64) and found.tokens.shape[0] == 2
    assert (found.parts["heads"] > 0) == (part == "net" and shape is not None)  # DeiT's head is in its backbone


def test_every_window_that_slides_over_an_image_is_counted(tmp_path):
    base = ROOT / "configs/segmentation/vit-nano-tome_linear_camvid-352.py"
    slide = "dict(_delete_=True, mode='slide', crop_size=(64, 64), stride=(32, 32))"
    (tmp_path / "slide.py").write_text(
        f"_base_ = '{base}'\nmodel = dict(test_cfg={slide}, backbone=dict(\n    reducer=dict(r=4)))\n"
    )
    one, two = (
        BenchmarkSession(BenchmarkCase(str(tmp_path / "slide.py"), shape=shape), BenchmarkSettings()).counts[0]
        for shape in ((64, 64), (64, 96))
    )
    assert two.positions == 2 * one.positions == 34 and two.formula == two.parts["blocks"] == 2 * one.formula
    assert torch.equal(two.tokens, 2 * one.tokens)


def _forward(vit, image):
    stack = vit.start(image)
    stack.run(0, 2)
    return stack.finish()


def run_here(monkeypatch, *options):
    tool = load_script(TOOL)
    monkeypatch.setattr(sys, "argv", ["get_flops.py", PRUNED, "--device", "cpu", *options])
    monkeypatch.chdir(ROOT)
    run(tool.main)


def test_a_count_that_breaks_the_formula_ends_with_an_error(monkeypatch):
    monkeypatch.setattr(flops, "block_flops", lambda n, dim, ratio, left: 1000 * n)
    with pytest.raises(SystemExit, match="closed formula"):
        run_here(monkeypatch, "--shape", "64", "64")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--checkpoint", "a", "b"], "2 files for 1 configs"),
        (["--number", "0"], "--number and --batch must be at least 1"),
        (["--checkpoint", "nowhere.pth"], "nowhere.pth"),
    ],
)
def test_a_wrong_option_ends_with_one_sentence(monkeypatch, capsys, options, sentence):
    with pytest.raises(SystemExit) as end:
        run_here(monkeypatch, *options)
    assert end.value.code == 2 and sentence in capsys.readouterr().err.splitlines()[-1]
