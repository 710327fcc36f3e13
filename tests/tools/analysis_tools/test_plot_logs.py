"""plot_logs.py: positions on the axis, joined runs, and the messages for files that are no logs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scripts import load_script

from mmcv_custom.cli import launch

TOOL = Path(__file__).resolve().parents[3] / "tools/analysis_tools/plot_logs.py"


@pytest.fixture(scope="module")
def tool():
    return load_script(TOOL)


def log(folder, rows, run="20260101_000000"):
    file = folder / run / "vis_data/scalars.json"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def training(epochs, loss=1.0, kept=0.5):
    """Return rows as LoggerHook and CostHook write them: 8 iterations per epoch, logged every 4."""
    rows = []
    for epoch in epochs:
        for iteration in (8 * epoch - 4, 8 * epoch):
            rows.append(
                {
                    "loss": loss / iteration,
                    "keep_ratio.3": kept,
                    "keep_ratio.5": kept / 2,
                    "epoch": epoch,
                    "iter": iteration,
                    "step": iteration,
                }
            )
        rows.append({"cost/keep_ratio.0": 1.0, "cost/keep_ratio.3": kept, "step": epoch})
        rows.append({"mIoU": 10.0 * epoch, "step": epoch})
    return rows


def test_scores_stand_at_the_end_of_their_epoch(tool, tmp_path):
    run = tool.read_run(log(tmp_path, training([1, 2, 3])), "a")
    assert run.per_epoch == 8 and [at for at, _ in run.curves["loss"]] == [4, 8, 12, 16, 20, 24]
    assert run.curves["mIoU"] == [(8, 10), (16, 20), (24, 30)] and "step" not in run.curves


def test_runs_counted_in_iterations_have_no_epochs(tool, tmp_path):
    rows = [{"loss": 1.0, "iter": 50, "step": 50}, {"mIoU": 3.0, "step": 50}, {"loss": 0.5, "iter": 100, "step": 100}]
    run = tool.read_run(log(tmp_path, rows), "a")
    assert run.per_epoch is None and run.curves["mIoU"] == [(50, 3)] and tool.axis([run]) == ("iteration", [1])
    other = tool.read_run(log(tmp_path / "other", training([1])), "b")
    assert tool.axis([run, other]) == ("iteration", [1, 1]) and tool.axis([other]) == ("epoch", [8])


def test_a_resumed_run_replaces_repeated_iterations_and_tests_are_ignored(tool, tmp_path):
    log(tmp_path, training([1, 2, 3], loss=1.0))
    log(tmp_path, training([3, 4], loss=100.0), "20260102_000000")
    log(tmp_path, [{"cost/keep_ratio.0": 1.0, "step": 0}], "20260103_000000")
    cut = tmp_path / "20260102_000000/vis_data/scalars.json"
    cut.write_text(cut.read_text() + '{"loss": 0.')  # killed while writing
    run = tool.read_run(tmp_path, "a")
    assert run.curves["mIoU"] == [(8, 10), (16, 20), (24, 30), (32, 40)]
    losses = dict(run.curves["loss"])
    assert len(losses) == len(run.curves["loss"]) == 8 and losses[16] == 1 / 16 and losses[20] == 100 / 20


def test_kept_tokens_by_block(tool, tmp_path):
    run = tool.read_run(log(tmp_path, training([1, 2])), "a")
    blocks, at, values, what = tool.kept_by_block(run)
    assert (blocks, at, what) == ([3, 5], [4, 8, 12, 16], "in training")
    assert np.array_equal(values, [[0.5] * 4, [0.25] * 4])
    run.curves = {key: points for key, points in run.curves.items() if not key.startswith("keep_ratio")}
    blocks, at, values, what = tool.kept_by_block(run)
    assert (blocks, at, what) == ([0, 3], [8, 16], "in evaluations") and values[0, 0] == 1
    run.curves = {"loss": [(4, 1.0)]}
    assert tool.kept_by_block(run) is None and tool.draw_kept([run]) is None


def test_names_are_the_part_in_which_paths_differ(tool):
    assert tool.short_names(["x/a/dense", "x/b/dense"]) == ["a", "b"]
    assert tool.short_names(["x/a/dense"]) == ["dense"] and tool.short_names(["x/a", "x/b"]) == ["a", "b"]


def test_images_of_several_runs(tool, tmp_path, monkeypatch, capsys):
    long = [{"loss": 1.0, "epoch": 1 + i // 100, "iter": i + 1, "step": i + 1} for i in range(300)]
    log(tmp_path / "long", long), log(tmp_path / "pruned", training([1, 2]))
    folders = [str(tmp_path / name) for name in ("long", "pruned")]
    options = ["--keys", "loss", "mIoU", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["plot_logs.py", *folders, *options])
    tool.main()
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"logs.png", "keep_ratio.png"}
    assert "mIoU, last: long never logged it, pruned 20" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "options", "sentence"),
    [
        ({}, [], "has no */vis_data/scalars.json"),
        ({"a/vis_data/scalars.json": ""}, [], "have no row of training"),
        ({"a/vis_data/scalars.json": '{"mIoU": 3, "step": 0}\n'}, [], "have no row of training"),
        ({"a/vis_data/scalars.json": "abc\n{}\n"}, [], "line 1 of"),
        ({"a/vis_data/scalars.json": "[1]\n{}\n"}, [], "has lines without a step"),
        (
            {"a/vis_data/scalars.json": '{"loss": 3, "iter": 1, "step": 1}\n'},
            ["--keys", "mIoU"],
            "--keys mIoU: none of the runs logged it, only loss",
        ),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(tool, tmp_path, monkeypatch, capsys, files, options, sentence):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(content)
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["plot_logs.py", str(tmp_path), *options, "--out", str(out)])
    with pytest.raises(SystemExit) as end:
        launch.run(tool.main)
    assert end.value.code == 2 and sentence in capsys.readouterr().err and not out.exists()
