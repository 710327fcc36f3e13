"""The generated pages agree with their rows."""

import json
from pathlib import Path

import pytest
from scripts import load_script

from mmcv_custom.results import row, write_json

ROOT = Path(__file__).resolve().parents[3]


def results_page():
    return load_script("tools/analysis_tools/results_page.py")


@pytest.mark.parametrize("name", results_page().PAGES)
def test_committed_page_is_generated_from_the_committed_rows(name):
    assert (ROOT / f"docs/{name}.md").read_text() == results_page().page(ROOT / "docs" / name)


def test_the_readme_shows_the_committed_rows():
    text = (ROOT / "README.md").read_text()
    assert text == results_page().with_speed_table(text)


def test_rows_hold_their_circumstances(tmp_path):
    made = row(model="dense", ms=12.34, command="make demo")
    assert {"model", "ms", "command", "commit", "date", "machine", "versions"} <= made.keys()
    assert made["versions"]["torch"] and made["machine"]["cores"]
    columns = [["model", "model"], ["ms", "ms"]]
    write_json(tmp_path / "a.json", dict(title="T", text="Some text.", columns=columns, rows=[made]))
    text = results_page().page(tmp_path)
    assert "| dense | 12.3 |" in text and "make demo" in text
    assert not list(tmp_path.glob("*part*")) and json.loads((tmp_path / "a.json").read_text())["title"] == "T"
