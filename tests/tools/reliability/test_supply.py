"""Licences, advisories and the bill of materials of the dependencies."""

import re
import sys
from importlib import metadata

import pytest
import supply
from packaging.requirements import Requirement

from mmcv_custom.errors import ConfigError


def test_what_is_needed_is_found_through_its_dependents():
    found = supply.installed([Requirement("starlette"), Requirement("no-such-package")])
    assert {"starlette", "anyio", "idna"} <= set(found) and "no-such-package" not in found


def test_the_committed_page_lists_every_pin():
    page = dict(re.findall(r"^\| ([\w.-]+) \| ([\w.+]+) \|", supply.PAGE.read_text(), re.MULTILINE))
    assert {"torch", "onedl-mmcv", "onnxruntime", "openvino"} <= set(page)
    lines = [line for line in (supply.ROOT / "requirements.txt").read_text().splitlines() if re.match(r"\w", line)]
    lines += [line for line in metadata.requires("token-pruning") if 'extra == "export"' in line]
    for one in map(Requirement, lines):
        if one.marker is None or one.marker.evaluate(dict(python_version="3.11", extra="export")):
            assert one.specifier.contains(page[one.name].split("+")[0]), one


def test_licences_come_from_the_best_field():
    class Fake(dict):
        def get_all(self, name):
            return self.get(name)

    def named(**fields):
        about = Fake({name.replace("_", "-"): value for name, value in fields.items()})
        return supply.licence(type("Package", (), dict(metadata=about)))

    classifiers = ["License :: OSI Approved", "License :: OSI Approved :: MIT License", "Topic :: X"]
    assert named(License_Expression="MIT", License="BSD") == "MIT"
    assert named(Classifier=classifiers, License="BSD") == "MIT License"
    assert named(License="Apache 2.0\nwith a long text") == "Apache 2.0" and named(License="UNKNOWN") == "not named"
    assert "| torch | " in supply.licences_page(dict(torch=metadata.distribution("torch")))


@pytest.mark.parametrize(
    ("script", "found", "says"),
    [
        (
            "print('Max retries exceeded: Connection refused', file=sys.stderr); sys.exit(1)",
            None,
            "nothing was checked",
        ),
        ('print(\'{"dependencies": [{"name": "a", "vulns": [{"id": "X-1"}]}]}\')', 1, "a X-1"),
        ('print(\'{"dependencies": [{"name": "a", "vulns": []}]}\')', 0, "none is known"),
    ],
    ids=["unreachable", "found", "none"],
)
def test_advisories(tmp_path, script, found, says):
    fake = tmp_path / "python"
    fake.write_text(f"#!{sys.executable}\nimport sys\nassert 'starlette==' in sys.stdin.read()\n{script}\n")
    fake.chmod(0o755)
    fields = supply.advisories(str(fake), supply.installed([Requirement("starlette")]))
    assert fields["found"] == found and says in fields["says"]


def test_a_tool_that_fails_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="does not run"):
        supply.advisories(str(tmp_path / "none"), {})
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho no such option >&2\nexit 2\n")
    fake.chmod(0o755)
    with pytest.raises(ConfigError, match="pip-audit failed: no such option"):
        supply.advisories(str(fake), {})
    with pytest.raises(ConfigError, match="cyclonedx-py failed: no such option"):
        supply.bill_of_materials(str(fake), str(tmp_path / "sbom.json"))
