"""The demo from end to end, from scratch at a small size, with its tools in this process; its report and its plans."""

import json
import sys
from unittest.mock import patch

import pytest
from scripts import load_script, run_tool

pytestmark = pytest.mark.filterwarnings("ignore:.*random weights")


@pytest.fixture
def tool(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return load_script("tools/quickstart/demo.py")


def made(tool, *arguments):
    with patch.object(sys, "argv", ["demo.py", *arguments]):
        return tool.Demo(tool.parse_args())


def test_from_scratch_writes_report_and_rows(tool, monkeypatch, tmp_path, capsys):
    def call(self, *command):
        done = run_tool(*command)
        self.log.write_text(done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr[-3000:]

    monkeypatch.setattr(tool.Phases, "call", call)
    demo = made(tool, "--from-scratch", "--images", "16", "4", "--epochs", "1", "--timed", "2")
    demo.run()
    said = capsys.readouterr().out
    assert "[1/7] drawing 20 scenes" in said and "[7/7]" in said and "To try next:" in said
    assert len(said.splitlines()) < 25
    rows = json.loads((tmp_path / "work_dirs/demo_from-scratch/results.json").read_text())
    assert [(row["model"], row["method"]) for row in rows] == [("dense", "dense"), ("pruned", "SViT")]
    for row in rows:
        assert {"box_AP", "box_AP50", "mask_AP", "keep_ratio", "gmacs", "ms", "command", "versions"} <= set(row)
    assert rows[0]["keep_ratio"] == 1 and 0 < rows[1]["keep_ratio"] < 1
    assert rows[1]["gmacs"] < rows[0]["gmacs"] and "speedup_vs_dense_quartiles" in rows[1]
    report = (tmp_path / "work_dirs/demo_from-scratch/report.html").read_text()
    assert report.count("data:image/jpeg;base64,") == 3 * 4 and "block 5" in report
    assert report.index("times as fast as the dense one") < report.index("<table>")
    # Where tools/train.py writes by default, so configs and demos find the weights.
    assert (tmp_path / "work_dirs/digits_svit-adapter-nano/epoch_1.pth").exists()
    assert made(tool, *sys_arguments(16, 4, 1)).plan()[1][1] == 0  # finished training is not repeated


def sys_arguments(train, val, epochs):
    return ["--from-scratch", "--images", str(train), str(val), "--epochs", str(epochs)]


def test_other_settings_need_another_folder(tool):
    made(tool, "--images", "16", "4")
    with pytest.raises(tool.ConfigError, match="--work-dir"):
        made(tool, "--images", "16", "5")


def test_the_shipped_weights_are_fine_tuned_pruned_and_on_request_dense(tool):
    demo = made(tool)
    assert demo.trained == ["digits_svit-adapter-t"] and demo.models()[0].checkpoint == str(demo.recipe.weights)
    assert demo.recipe.weights.is_file() and demo.recipe.weights.stat().st_size < 16e6
    both = made(tool, "--fine-tune-dense", "--work-dir", "other")
    assert [model.name for model in both.models()] == ["dense", "pruned", "dense_ftune"]
    assert both.steps("digits_svit-adapter-t") == both.steps("digits_vit-adapter-t_ftune")
    pruned, dense = (both.configs[name] for name in both.trained)
    assert pruned.optim_wrapper == dense.optim_wrapper and pruned.param_scheduler == dense.param_scheduler
    assert str(demo.recipe.weights).endswith(pruned.load_from)


def test_fine_tuning_the_dense_model_is_for_the_shipped_weights(tool, capsys):
    with pytest.raises(SystemExit):
        made(tool, "--from-scratch", "--fine-tune-dense")
    assert "leave --from-scratch out" in capsys.readouterr().err


def test_images_to_time_on_are_at_least_one(tool):
    with pytest.raises(tool.ConfigError, match="at least 1 image"):
        made(tool, "--timed", "0")


def test_the_page_of_the_data_names_the_numbers_of_images(tool):
    page = (tool.ROOT / "data/README.md").read_text()
    assert all("{} + {} images".format(*recipe.images) in page for recipe in (tool.SHIPPED, tool.FROM_SCRATCH))
