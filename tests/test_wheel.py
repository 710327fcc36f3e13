"""The wheel: light dependencies, configs and tools by name from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


EXTRAS = {"detection", "segmentation", "classification", "export", "web"}


def build(folder, tmp_path_factory):
    """Return the wheel of a folder, built from a copy of what git tracks: two workers share no build folder."""
    pytest.importorskip("setuptools")
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.split("\n"):
        if name and not name.startswith(("tests/", "docs/")) and (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            os.symlink(os.path.realpath(ROOT / name), source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        out,
        source / folder,
    ]
    done = subprocess.run(command, env=os.environ | {"MSDA_BUILD": "off"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(".", tmp_path_factory)


def metadata(wheel, field):
    """Return the values of a field of a wheel's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(name).decode().splitlines()
    return [line.split(": ", 1)[1] for line in lines if line.startswith(f"{field}: ")]


def test_the_core_needs_torch_timm_and_numpy_only(wheel):
    needed = metadata(wheel, "Requires-Dist")
    assert [line.split(">=")[0] for line in needed if "extra ==" not in line] == ["torch", "timm", "numpy"]
    for extra, toolbox in [("all", "detection"), ("segmentation", "segmentation"), ("classification", "pretrain")]:
        assert any(line.startswith(f"onedl-mm{toolbox}==") and f'extra == "{extra}"' in line for line in needed)
        # The web page and selector_demo.py without an image show a photograph of scikit-image.
        assert any(line.startswith("scikit-image") and f'extra == "{extra}"' in line for line in needed)
    assert not any("onedl-mmsegmentation" in line and 'extra == "detection"' in line for line in needed)
    assert {*metadata(wheel, "Provides-Extra")} >= EXTRAS


def test_model_cards_are_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {*archive.namelist()}
    for card in (ROOT / "configs").rglob("metafile.yml"):
        assert f"mmcv_custom/_shipped/{card.relative_to(ROOT).as_posix()}" in names


def test_the_operator_alone(tmp_path_factory, tmp_path):
    wheel = build("ops", tmp_path_factory)
    assert metadata(wheel, "Name") == ["token-pruning-ops"]
    assert [line.split(">=")[0] for line in metadata(wheel, "Requires-Dist")] == ["torch"]
    with zipfile.ZipFile(wheel) as archive:
        assert {name.split("/")[0].split("-")[0] for name in archive.namelist()} == {"token_pruning_ops"}
        assert "token_pruning_ops/setup.py" not in archive.namelist()
        archive.extractall(tmp_path)
    program = "import token_pruning_ops as ops; print(ops.__file__, callable(ops.replace_deformable_attention))"
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "token_pruning_ops/__init__.py"), "True"], done.stderr


def test_the_command_says_that_the_toolboxes_are_missing(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = "import sys; sys.modules['mmengine'] = None; from token_pruning.__main__ import main; sys.exit(main())"
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "pip install 'token-pruning[detection]'" in done.stderr


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
    names = run("-m", "token_pruning", "configs", "mask_rcnn/svit").split()
    ends = ("s-0.33x-ftune", "s_dinov2_ftune", "t-0.5x-ftune")
    assert names == [f"mask_rcnn/svit-adapter-{end}" for end in ends]
    image = ROOT / "docs/images/tome_detection.jpg"
    weights = "configs/quickstart/weights/digits_vit-adapter-t.safetensors"
    said = run("-m", "token_pruning", "predict", image, "quickstart/digits_vit-adapter-t", weights, "--out", "found")
    assert (elsewhere / "found").is_dir() and "tome_detection: " in said and "random weights" not in said
    assert "Evaluate a checkpoint" in run("-m", "token_pruning", "test", "--help")
