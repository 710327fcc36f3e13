"""Files for others' machines call commands that exist: Dockerfile, workflow, citation."""

import os
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TARGETS = set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def instructions():
    """Return (name, arguments) of the Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def test_the_dockerfile_calls_targets_of_make():
    found = instructions()
    assert found[0] == ("FROM", "python:3.11-slim")
    assert {name for name, _ in found} <= {"FROM", "RUN", "WORKDIR", "ENV", "COPY", "CMD"}
    called = [
        match for name, text in found if name in ("RUN", "CMD") for match in re.findall(r'make[\s",]+([a-z-]+)', text)
    ]
    assert {"setup", "demo"} <= set(called) and not [name for name in called if name not in TARGETS]


def steps():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    return {name: [step.get("run") for step in job["steps"]] for name, job in workflow["jobs"].items()}


def test_the_workflow_runs_what_other_runners_run():
    commands = steps()
    assert ".ci/run" in commands["test"] and os.access(ROOT / ".ci/run", os.X_OK)
    assert "make docs" in commands["docs"] and "docs" in TARGETS


@pytest.mark.parametrize(("key", "name"), [("version", "version"), ("license", "license")])
def test_the_citation_is_of_this_version(key, name):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert str(citation[key]) == re.search(rf'^{name} = "(.*)"', project, re.MULTILINE)[1]
    assert [author["name"] for author in citation["authors"]] == re.findall(r'authors = \[\{ name = "(.*?)"', project)
