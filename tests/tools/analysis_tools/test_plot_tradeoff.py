"""plot_tradeoff.py: a row for every value of the cost parameter and one for the dense model, and a plot."""

import json
import sys
from pathlib import Path

import pytest
import torch
from scripts import load_script, run_tool

from mmcv_custom.benchmark import BenchmarkCase, BenchmarkSession, BenchmarkSettings
from mmcv_custom.cli.launch import run

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / "tools/analysis_tools/plot_tradeoff.py"
DENSE, PRUNED = (str(ROOT / f"configs/quickstart/digits_{name}-adapter-nano.py") for name in ("vit", "svit"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Make a folder with four digit scenes and random weights of both detectors."""
    folder = tmp_path_factory.mktemp("project")
    converter = "tools/dataset_converters/digit_scenes.py"
    run_tool(converter, "data/digit_scenes", "--train", 4, "--val", 4, cwd=folder, code=0)
    for name, config in dict(dense=DENSE, pruned=PRUNED).items():
        session = BenchmarkSession(BenchmarkCase(config, shape=(64, 64)), BenchmarkSettings(part="backbone", repeats=2))
        torch.save(dict(state_dict=session.model.state_dict()), folder / f"{name}.pth")
    return folder


def test_rows_and_image(project):
    options = f"pruned.pth --dense {DENSE}=dense.pth --scales 1.0 0.4 --timed 2 --images data/digit_scenes/val"
    run_tool(TOOL, PRUNED, *options.split(), "--device", "cpu", "--out", "out", cwd=project, code=0)
    rows = json.loads((project / "out/rows.json").read_text())
    assert [row["cost_value"] for row in rows] == [None, 0.4, 1.0]
    assert all({"box_AP", "mask_AP", "gmacs", "ms_median", "commit", "versions"} <= row.keys() for row in rows)
    assert rows[1]["gmacs"] < rows[2]["gmacs"] < rows[0]["gmacs"]
    assert rows[1]["keep"] == "as trained"
    assert (project / "out/tradeoff.png").stat().st_size > 10000


@pytest.mark.parametrize(
    ("folder", "names", "metric", "sizes"),
    [
        ("deit/digits", ("deit-nano_digits", "tome_deit-nano_digits"), "top1", (32, 32)),
        ("segmentation", ("vit-nano_linear_camvid-352", "vit-nano-tome_linear_camvid-352"), "mIoU", (360, 480)),
    ],
    ids=["classifier", "segmentor"],
)
def test_other_tasks_have_their_own_scores(folder, names, metric, sizes, tmp_path):
    from PIL import Image

    from mmcv_custom.data.synthetic import scene

    dense, pruned = (ROOT / "configs" / folder / f"{name}.py" for name in names)
    torch.save(
        dict(
            state_dict=BenchmarkSession(
                BenchmarkCase(str(dense)), BenchmarkSettings(part="backbone")
            ).model.state_dict()
        ),
        tmp_path / "dense.pth",
    )
    classes = [f"data/digits/val/{i}" for i in range(10)] if metric == "top1" else ["data/camvid/images/val"]
    for i, name in enumerate(classes):
        (tmp_path / name).mkdir(parents=True)
        Image.fromarray(scene(*sizes, i)).save(tmp_path / name / "a.png")
    if metric == "mIoU":
        (tmp_path / "data/camvid/labels/val").mkdir(parents=True)
        Image.fromarray(torch.ones(sizes, dtype=torch.uint8).numpy()).save(tmp_path / "data/camvid/labels/val/a.png")
    options = f"dense.pth --dense {dense}=dense.pth --values 4 8 --timed 2 --images {classes[0]} --out out"
    if metric == "top1":
        options = options.replace(classes[0], "data/digits/val")
    else:
        options += " --part backbone"
    done = run_tool(TOOL, pruned, *options.split(), "--device", "cpu", cwd=tmp_path, code=0)
    rows = json.loads((tmp_path / "out/rows.json").read_text())
    assert [(row["cost_param"], row["cost_value"]) for row in rows] == [(None, None), ("r", 4), ("r", 8)]
    assert rows[2]["gmacs"] < rows[1]["gmacs"] < rows[0]["gmacs"] and all(0 <= row[metric] <= 100 for row in rows)
    assert (tmp_path / "out/tradeoff.png").stat().st_size > 10000 and "r 8" in done.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["nowhere.pth"], "checkpoint nowhere.pth"),
        (["pruned.pth", "--values", "0"], "--values of ratio_scale must be given and greater than 0"),
        (["pruned.pth", "--dense", DENSE], "--dense needs a checkpoint"),
    ],
)
def test_a_wrong_option_ends_with_one_sentence(project, monkeypatch, capsys, options, sentence):
    tool = load_script(TOOL)
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["plot_tradeoff.py", PRUNED, *options, "--images", "data"])
    with pytest.raises(SystemExit) as end:
        run(tool.main)
    assert end.value.code == 2 and sentence in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("reducer", "cost_param", "values"),
    [
        (dict(type="SViT"), "ratio_scale", [0.4, 0.6, 0.8, 1.0, 1.2]),
        (dict(type="EViT", keep_ratio=0.9), "keep_ratio", [0.36, 0.54, 0.72, 0.9, 1.0]),
        (dict(type="ToMe", r=13), "r", [5, 8, 10, 13, 16]),
        (dict(type="ToMe", r=[4, 2]), "r", []),
    ],
)
def test_default_values_follow_the_config(reducer, cost_param, values):
    assert load_script(TOOL).default_values(reducer, cost_param) == pytest.approx(values)
