"""Short runs of the reliability tools: a few kills, full disks and a silent node, on a machine of any kind."""

import json
import sys

import pytest
import torch
from scripts import load_script, run_tool

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, limits and process trees of Linux"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="a process that uses CUDA cannot be forked"),
]


def rows(tool, tmp_path, *arguments, code=0):
    file = tmp_path / "rows.json"
    done = run_tool(f"tools/reliability/{tool}.py", *arguments, "--json", file, code=code, cwd=tmp_path)
    found = json.loads(file.read_text())
    assert all(row["kind"] == "faults" and row["faults"] == 0 and row["commit"] for row in found), done.stdout
    return {row["what"]: row for row in found}


def test_killed_runs_go_on_to_the_result_of_a_whole_one(tmp_path):
    found = rows("kills", tmp_path, "--kinds", "training", "--cases", 2, "--seed", 1)["kill training"]
    assert found["cases"] == found["killed"] == 2 and found["works"] == ["classification", "detection"]


def test_limited_files_end_with_one_sentence(tmp_path):
    found = rows("full_disk", tmp_path, "--kinds", "training", "--cases", 1, "--limit")
    assert [row["ran_full"] for row in found.values()] == [1]


def test_a_node_ends_when_the_other_one_is_silent(tmp_path):
    found = rows("dead_processes", tmp_path, "--kinds", "silent node", "--cases", 1)["silent node"]
    assert found["slowest_s"] < 60 and found["node_timeout_s"] < 60


@pytest.mark.parametrize(
    ("name", "text", "whole"),
    [
        ("a.json", '{"a": 1}', True),
        ("a.json", '{"a": ', False),
        ("scalars.json", '{"a": 1}\n{"a"', True),
        ("scalars.json", '{"a"\n{"a": 1}', False),
        ("last_checkpoint", "nowhere.pth", False),
        ("a.pth", "PK", False),
        ("a.safetensors", "8", False),
        ("a.png", "PNG", False),
        ("a.pkl", "", False),
        (".part-a.json", "{", True),
        ("a.txt", "{", True),
    ],
)
def test_broken_files_are_found(tmp_path, name, text, whole):
    broken_files = load_script("tools/reliability/whole_files.py").broken_files
    (tmp_path / name).write_text(text)
    assert (broken_files(tmp_path) == []) == whole


def test_rows_go_into_a_page_or_a_list_in_the_place_of_older_ones(tmp_path):
    rows = load_script("tools/reliability/rows.py")
    new = dict(what="a", cases=2, faults=0, found=[])
    older = [dict(what="a", cases=1), dict(what="b")]
    for name, before in (("list", older), ("page", dict(title="T", rows=older))):
        (tmp_path / name).write_text(json.dumps(before))
        rows.write_rows(tmp_path / name, [new])
        after = json.loads((tmp_path / name).read_text())
        assert (after["rows"] if name == "page" else after) == [dict(what="b"), new]
    assert json.loads((tmp_path / "page").read_text())["title"] == "T"
