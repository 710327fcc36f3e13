"""A few cases of every kind of input with a fixed seed; ``make fuzz`` runs thousands."""

import json
import os
import subprocess
import sys

import pytest
from fuzz.run import KINDS, faults_of
from scripts import ROOT

# Few of those that take long; each kind has some that break and some that are sound.
FEW = {"images": 40, "annotations": 60, "own data": 25, "label maps": 20, "method options": 80, "checkpoints": 40}


@pytest.mark.parametrize("kind", KINDS)
def test_no_input_gives_anything_but_the_right_result_or_one_clear_sentence(kind):
    found = faults_of(kind, 0, range(FEW.get(kind, 3)))
    assert not found, "\n".join(f"{fault.command}: {fault.given}: {fault.outcome}" for fault in found)


def test_the_command_runs_every_kind(tmp_path):
    """Outside of pytest, which has more folders on its path."""
    out = tmp_path / "rows.json"
    command = [sys.executable, "-m", "fuzz.run", "--cases", "1", "--out", out]
    done = subprocess.run(command, env=os.environ | dict(PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}"), cwd=tmp_path)
    assert done.returncode == 0 and [one["what"] for one in json.loads(out.read_text())] == list(KINDS)
