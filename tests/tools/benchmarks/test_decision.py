"""decision.py: the time of the reducer's hooks without the score function."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch
from scripts import load_script

ROOT = Path(__file__).resolve().parents[3]
SEGVIT = ROOT / "configs/segvit"


@pytest.fixture
def tool():
    return load_script("tools/benchmarks/decision.py")


def test_nested_hooks_count_once_and_the_score_function_does_not_count(tool, monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(now)))
    clock = tool.Clock(torch.device("cpu"))
    score_fn = clock.watch(lambda: None, -1)  # from 2 to 3
    inner = clock.watch(score_fn)  # from 1 on, within
    clock.watch(inner)()  # from 0 to 4
    assert clock.seconds == 4 - 1


@pytest.mark.parametrize("method", ["dtop", "svit"])
def test_rows(tool, monkeypatch, tmp_path, capsys, method):
    config = str(SEGVIT / f"vit-nano-{method}_segvit_digit-scenes-128.py")
    out = tmp_path / "rows.json"
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "decision.py",
            config,
            "--shape",
            "64",
            "96",
            "--batch",
            "1",
            "2",
            "--repeats",
            "2",
            "--device",
            "cpu",
            "--json",
            str(out),
        ],
    )
    tool.main()
    rows = json.loads(out.read_text())
    assert [r["batch"] for r in rows] == [1, 2] and all(0 < r["share_of_decision"] < 1 for r in rows)
    assert {r["weights"] for r in rows} == {"random"}
    assert "batch 2: " in capsys.readouterr().out


def test_a_dense_config_is_refused(tool, monkeypatch):
    monkeypatch.setattr(
        sys,
        "argv",
        ["decision.py", str(SEGVIT / "vit-nano_segvit_camvid-352.py"), "--shape", "64", "64", "--device", "cpu"],
    )
    with pytest.raises(tool.ConfigError, match="has no reducer: give one of a pruned model"):
        tool.main()
