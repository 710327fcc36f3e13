"""The package mmpretrain loads beside any transformers, its multimodal models only beside one that they support."""

import subprocess
import sys

import pytest

CODE = """
from importlib import metadata
installed = metadata.version
metadata.version = lambda name: "{version}" if name == "transformers" else installed(name)
import mmdet_custom
from mmpretrain.utils import dependency
dependency_before = dependency.satisfy_requirement("pycocotools")
print(dependency.WITH_MULTIMODAL, dependency_before)
"""


@pytest.mark.parametrize("version", ["5.17.0"])
def test_transformers_five_switches_multimodal_models_off(version):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE.format(version=version)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False True"
