"""The dial at test time: a row for every scale and one for the dense model, and a picture."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmcv_custom.launch import run
from mmcv_custom.speed import Case, Setting, Subject

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools/analysis_tools/plot_tradeoff.py"
DENSE, PRUNED = (str(ROOT / f"configs/quickstart/digits_{name}-adapter-nano.py") for name in ("vit", "svit"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with four digit scenes and fresh weights of both detectors."""
    folder = tmp_path_factory.mktemp("project")
    converter = ROOT / "tools/dataset_converters/digit_scenes.py"
    subprocess.run([sys.executable, str(converter), "data/digit_scenes", "--train", "4", "--val", "4"], cwd=folder,
                   check=True, capture_output=True)
    for name, config in dict(dense=DENSE, pruned=PRUNED).items():
        subject = Subject(Case(config, shape=(64, 64)), Setting(part="backbone", repeats=2))
        torch.save(dict(state_dict=subject.model.state_dict()), folder / f"{name}.pth")
    return folder


def test_rows_and_picture(project):
    options = f"pruned.pth --dense {DENSE}=dense.pth --scales 1.0 0.4 --timed 2 --images data/digit_scenes/val"
    done = subprocess.run([sys.executable, str(TOOL), PRUNED, *options.split(), "--device", "cpu", "--out", "out"],
                          cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((project / "out/rows.json").read_text())
    assert [row["ratio_scale"] for row in rows] == [None, 0.4, 1.0]
    assert all({"box_AP", "mask_AP", "gflops", "ms_median", "commit", "versions"} <= row.keys() for row in rows)
    assert rows[1]["gflops"] < rows[2]["gflops"] < rows[0]["gflops"]
    assert rows[1]["keep"] == "as trained"
    assert (project / "out/tradeoff.png").stat().st_size > 10000


@pytest.mark.parametrize(("options", "sentence"), [
    (["nowhere.pth"], "checkpoint 'nowhere.pth'"),
    (["pruned.pth", "--scales", "0"], "--scales must be greater than 0"),
    (["pruned.pth", "--dense", DENSE], "does not exist"),
])
def test_a_wrong_option_ends_with_one_sentence(project, monkeypatch, capsys, options, sentence):
    spec = importlib.util.spec_from_file_location("plot_tradeoff", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["plot_tradeoff.py", PRUNED, *options, "--images", "data"])
    with pytest.raises(SystemExit) as end:
        run(tool.main)
    assert end.value.code == 2 and sentence in capsys.readouterr().err.splitlines()[-1]
