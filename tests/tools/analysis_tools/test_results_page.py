"""The generated pages agree with their rows."""

import json
from pathlib import Path

import gains
import pytest
from scripts import load_script

from mmcv_custom.errors import DataError
from mmcv_custom.results import row, write_json

ROOT = Path(__file__).resolve().parents[3]


def results_page():
    return load_script("tools/analysis_tools/results_page.py")


@pytest.mark.parametrize("name", results_page().PAGES)
def test_committed_page_is_generated_from_the_committed_rows(name):
    assert (ROOT / f"docs/{name}.md").read_text() == results_page().page(ROOT / "docs" / name)


def test_the_readme_shows_the_committed_rows():
    text = (ROOT / "README.md").read_text()
    assert text == results_page().with_made_parts(text)


def test_the_page_of_choices_shows_the_committed_rows():
    text = (ROOT / "docs/choose_a_method.md").read_text()
    assert text == results_page().with_choices(text)


def test_rows_hold_their_circumstances(tmp_path):
    made = row(model="dense", ms=12.34, command="make demo")
    assert {"model", "ms", "command", "commit", "date", "machine", "versions"} <= made.keys()
    assert made["versions"]["torch"] and made["machine"]["cores"]
    columns = [["model", "model"], ["ms", "ms"]]
    write_json(tmp_path / "a.json", dict(title="T", text="Some text.", columns=columns, rows=[made]))
    text = results_page().page(tmp_path)
    assert "| dense | 12.3 |" in text and "make demo" in text
    assert not list(tmp_path.glob("*part*")) and json.loads((tmp_path / "a.json").read_text())["title"] == "T"


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (None, "cannot be read"),
        ("[", "cannot be read"),
        ("[]", "no list of rows"),
        ('{"rows": [1]}', "no list of rows"),
    ],
)
def test_rows_that_cannot_be_added_are_refused_in_one_sentence(rows, sentence, tmp_path, monkeypatch):
    file, tool = tmp_path / "rows.json", results_page()
    if rows is not None:
        file.write_text(rows)
    monkeypatch.setattr(tool, "ROOT", tmp_path)  # nothing is written
    monkeypatch.setattr("sys.argv", ["results_page.py", "--add", str(file), "--name", "a", "--title", "T"])
    with pytest.raises(DataError, match=f"--add .*rows.json .*{sentence}"):
        tool.main()


def test_a_plot_that_does_not_exist_is_refused(tmp_path, monkeypatch):
    write_json(file := tmp_path / "rows.json", [row(model="dense")])
    tool = results_page()
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    options = ["--add", str(file), "--name", "a", "--title", "T", "--plot", str(tmp_path / "none.png")]
    monkeypatch.setattr("sys.argv", ["results_page.py", *options])
    with pytest.raises(DataError, match="--plot .*none.png does not exist"):
        tool.main()
    assert [*tmp_path.iterdir()] == [file]


def result(pruned="a", **changes):
    """Return a result of a dense network and two settings of one method, with rows changed as asked."""
    common = dict(command="make", commit="c", date="d", gmacs=2.0, batch=2)
    common |= dict(machine=dict(cpu="C", cores=2, threads=1, gpu=[]), versions=dict(torch="2"), weights="trained")
    speeds = {"dense": (1.0, 1.0), pruned: (1.2, 1.1), "b": (1.5, 1.4)}
    rows = [
        dict(common, model=name, method="M", cost_param="r", top1=score, ms=20 / speed, speedup_vs_dense=speed)
        | dict(speedup_vs_dense_quartiles=[low, 2.0])
        | changes
        for (name, (speed, low)), score in zip(speeds.items(), (50.0, 49.5, 40.0), strict=True)
    ]
    summary = dict(task="T", host="H", score="top1", heading="top-1")
    return dict(title="A title, long", text="Text.", columns=[["model", "model"]], rows=rows, summary=summary)


def test_the_fastest_setting_that_keeps_the_score_is_a_gain():
    (gain,) = gains.gains(result())
    assert gain.row["model"] == "a"  # b is faster and loses a fifth of the score
    assert gain.cells[:7] == ["T", "H", "a", "top-1", 50.0, 49.5, 1.2] and gain.cells[-1] == "C, 1 threads"
    assert gains.gains(result("pruned"))[0].cells[2] == "M"
    fast = result(top1=50.0)
    assert [gain.row["model"] for gain in gains.gains(fast)] == ["b"]  # of several settings, the fastest
    for one in fast["rows"]:
        del one["cost_param"]
    assert [gain.row["model"] for gain in gains.gains(fast)] == ["b", "a"]  # models of their own
    assert gains.gains(result(weights="random")) == []
    assert gains.gains(result(speedup_vs_dense_quartiles=[0.9, 2.0])) == []  # no faster than the noise
    untimed = result()
    assert gains.gains({"rows": untimed["rows"]}) == []
    untimed["rows"].append(dict(untimed["rows"][1], model="c", speedup_vs_dense=None))
    assert [one["model"] for one in gains.comparable(untimed)] == [one["model"] for one in untimed["rows"][:3]]
    untimed["rows"][0]["speedup_vs_dense"] = None  # no time to compare with
    assert gains.gains(untimed) == []


def test_the_page_opens_with_gains_and_ends_with_miniatures(tmp_path):
    write_json(tmp_path / "1.json", dict(result(), title="Small", miniature=True))
    write_json(tmp_path / "2.json", result(timing=dict(result()["rows"][0], command="time it", date="later")))
    write_json(tmp_path / "3.json", dict(result(weights="random"), title="Untrained"))
    text = results_page().page(tmp_path)
    order = ["## What you get", "| T | H | a |", "## A title, long", "## Untrained", "## Miniatures", "### Small"]
    assert sorted(order, key=text.index) == order and text.count("| T | H |") == 1
    assert "[command](#a-title-long)" in text and "make\ntime it\n" in text and "Timed on later" in text
    assert text.count("Weights: trained.") == 2 and "Weights: random, so this is speed only." in text


def test_the_plot_needs_times(tmp_path):
    gains.draw([dict(rows=[])], tmp_path / "none.png")
    gains.draw([result()], tmp_path / "some.png")
    assert [path.name for path in tmp_path.iterdir()] == ["some.png"]
