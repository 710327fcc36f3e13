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


def test_the_dockerfile_names_folders_variables_and_values_that_exist():
    text, found = (ROOT / "Dockerfile").read_text(), instructions()
    (folder,) = (place for name, place in found if name == "WORKDIR")
    assert f'-v "$PWD/work_dirs:{folder}/work_dirs"' in text  # results reach the host
    makefile = (ROOT / "Makefile").read_text()
    given = re.findall(r"make \w+ (\w+)=", " ".join(text for name, text in found if name == "RUN"))
    assert given and all(re.search(rf"^{variable} \?=", makefile, re.MULTILINE) for variable in given)
    (variables,) = (dict(re.findall(r"(\w+)=(\S+)", text)) for name, text in found if name == "ENV")
    assert variables.keys() <= {"PIP_EXTRA_INDEX_URL", "PIP_NO_CACHE_DIR", "MSDA_BUILD"}
    assert variables["MSDA_BUILD"] in ("auto", "cpu", "cuda", "off")


def test_the_image_takes_no_environment_data_or_results_and_all_that_a_wheel_ships():
    lines = (ROOT / ".dockerignore").read_text().split()
    # An environment of the host would pass for one that is ready.
    assert {".venv", "build", "work_dirs", "data/*", "pretrained/*", "**/*.so"} <= {*lines}
    shipped = re.findall(
        r'"([\w./]+)"', re.search(r"^SHIPPED = .*\n.*$", (ROOT / "setup.py").read_text(), re.MULTILINE)[0]
    )
    assert len(shipped) > 6 and all((ROOT / name).exists() for name in shipped)
    hidden = [line.removesuffix("/*") for line in lines if not line.startswith(("!", "*"))]
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert not [name for name in shipped if name.split("/")[0] in hidden and name not in kept]


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
