"""insights.py: the whole tool on two images, and its verdicts on given rows."""

import json
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from scripts import forks_for_tools, load_script

from mmcv_custom.cli.launch import build_model
from mmcv_custom.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def tool():
    return load_script("tools/analysis_tools/insights.py")


def made_up(seed, **box_ap):
    common = dict(
        seed=seed,
        mask_AP=0.4,
        gmacs=2.7,
        ms=50.0,
        keep_ratio=0.55,
        step_speedup_vs_standard=1.25,
        step_speedup_vs_dense=1.125,
    )
    return [dict(common, model=name.replace("_", "-"), box_AP=ap) for name, ap in box_ap.items()]


def test_verdicts(tool, tmp_path):
    rows = made_up(
        0, dense=0.45, standard=0.44, discarded=0.40, inherited=0.43, fixed_rate=0.447, heavier_gate=0.443, packed=0.44
    )
    said = tool.report(rows)
    for verdict in (
        "inherited against discarded: box AP +0.030: agrees with the paper (one seed)",
        "standard against inherited: box AP +0.010: agrees",
        "standard against fixed-rate: box AP -0.007: does not agree with the paper (one seed)",
        "standard against heavier-gate: box AP -0.003: agrees",
        "1.25 times as fast as the exact mode's (standard) and 1.12 times as fast as the dense",
    ):
        assert verdict in said
    rows += made_up(
        1, dense=0.45, standard=0.44, discarded=0.45, inherited=0.43, fixed_rate=0.43, heavier_gate=0.44, packed=0.44
    )
    assert "+0.005, from -0.020 to +0.030: too close to tell (mean of 2 seeds)" in tool.report(rows)
    tool.draw(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_whole_tool_and_a_second_run_that_repeats_nothing(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = build_model(Config.fromfile(tool.CONFIGS["dense"]), None)
    torch.save(dict(state_dict=model.state_dict()), "dense.pth")
    command = [
        "insights.py",
        "--images",
        "2",
        "2",
        "--epochs",
        "1",
        "1",
        "--timed",
        "2",
        "--variants",
        "packed",
        "--dense",
        "dense.pth",
    ]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(tool, "ROUNDS", 2)
    with forks_for_tools():
        tool.main()
    assert "times as fast as the dense one's" in capsys.readouterr().out
    folder = tmp_path / "work_dirs/insights"
    rows = json.loads((folder / "rows.json").read_text())
    assert [row["model"] for row in rows] == ["dense", "standard", "packed"]
    for row in rows:
        assert {"box_AP", "mask_AP", "gmacs", "ms", "keep_ratio", "seed", "command", "commit", "versions"} <= set(row)
    assert rows[2]["step_speedup_vs_standard"] > 0 and (folder / "insights.png").exists()

    called = []
    monkeypatch.setattr(tool, "call", lambda script, *_: called.append(script.name))
    tool.main()
    assert called == ["digit_scenes.py"] and json.loads((folder / "rows.json").read_text()) == rows
    monkeypatch.setattr(sys, "argv", [*command, "--timed", "3"])
    with pytest.raises(ConfigError, match="choose another with --work-dir"):
        tool.main()
