"""The wheel: light dependencies, configs and tools by name from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel, built from a copy of what git tracks, so that two workers never share a build folder."""
    pytest.importorskip("setuptools")
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.split("\n"):
        if name and not name.startswith(("tests/", "docs/")) and (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            os.symlink(os.path.realpath(ROOT / name), source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", out, source]
    done = subprocess.run(command, env=os.environ | {"MSDA_BUILD": "off"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_the_core_needs_torch_timm_and_numpy_only(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(name).decode().splitlines()
    needed = [line.split(": ")[1] for line in lines if line.startswith("Requires-Dist")]
    light = [line.split(">=")[0] for line in needed if "extra ==" not in line]
    assert light == ["torch", "timm", "numpy"]
    assert any(line.startswith("onedl-mmdetection==") and 'extra == "all"' in line for line in needed)


def test_configs_and_tools_are_found_by_name(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    program = (
        "import mmcv_custom, token_pruning; print(mmcv_custom.__file__)\n"
        "model = mmcv_custom.Predictor('quickstart/digits_svit-adapter-nano', None)\n"
        "print(type(model.model.backbone.reducer).__name__)"
    )
    env = os.environ | {"PYTHONPATH": str(site)}

    def run(*command):
        done = subprocess.run([sys.executable, *command], cwd=elsewhere, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("-c", program).split() == [str(site / "mmcv_custom/__init__.py"), "SViT"]
    names = run("-m", "mmcv_custom.cli", "configs", "mask_rcnn/svit").split()
    assert names == ["mask_rcnn/svit-adapter-s-0.33x-ftune", "mask_rcnn/svit-adapter-t-0.5x-ftune"]
    assert "Evaluate a checkpoint" in run("-m", "mmcv_custom.cli", "test", "--help")
