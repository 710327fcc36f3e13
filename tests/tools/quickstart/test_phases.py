"""The lines of the demo's phases, and what a phase that fails shows."""

import pytest
from scripts import load_script

PLAN = [("drawing: 3 scenes", 10.0), ("training", 30.0)]


@pytest.fixture
def phases(tmp_path):
    return load_script("tools/quickstart/phases.py").Phases(tmp_path / "logs", PLAN)


def test_one_line_per_phase_and_the_rest_in_its_log(phases, tmp_path, capsys):
    for word in ("circles", "losses"):
        with phases.next():
            print(word)
            phases.call("-c", f"print('more {word}')")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("[1/2] drawing: 3 scenes (about 40 s to the end) ...")
    logs = sorted((tmp_path / "logs").iterdir())
    assert [log.name for log in logs] == ["1_drawing.log", "2_training.log"]
    assert "more losses" in logs[1].read_text() and "$ python -c" in logs[1].read_text()


def test_expectations_follow_the_pace_so_far(phases):
    phases.index, phases.elapsed = 2, 80.0  # with the minute that counts besides: 140 s for 70 s
    assert phases.left() == "60 s"


def test_a_failing_command_shows_the_end_of_its_log(phases, capfd):
    with pytest.raises(SystemExit) as ended, phases.next():
        phases.call("-c", "raise SystemExit('no such thing')")
    assert ended.value.code == 1 and "no such thing" in phases.log.read_text()
    assert "no such thing" in capfd.readouterr().err
