"""mmcv_custom.shipped: configs by path and by name; the command `token-pruning`."""

import sys

import pytest

from mmcv_custom.checkpoint import find_checkpoint, read_checkpoint
from mmcv_custom.cli.__main__ import TOOLS, main
from mmcv_custom.cli.config_file import read_file
from mmcv_custom.errors import CheckpointError, ConfigError
from mmcv_custom.shipped import CONFIGS, ROOT, config_names, config_stem, find_config, find_file

NAME = "mask_rcnn/svit-adapter-s-0.33x-ftune"


@pytest.mark.parametrize("name", [NAME, f"{NAME}.py", f"configs/{NAME}.py", "svit-adapter-s-0.33x-ftune"])
def test_configs_are_found_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == str(CONFIGS / f"{NAME}.py")
    assert config_stem(name) == "svit-adapter-s-0.33x-ftune"  # a dot is no suffix


def test_a_file_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "svit-adapter-s-0.33x-ftune.py").write_text("a = 1")
    assert read_file("svit-adapter-s-0.33x-ftune.py").a == 1


def test_unknown_names(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="did you mean mask_rcnn/svit-adapter-s-0.33x-ftune"):
        find_config("mask_rcnn/svit-adapter-s-0.3x-ftune")
    with pytest.raises(ConfigError, match="token-pruning configs lists the names"):
        find_config("qqq.py")
    names = config_names()
    assert len(names) == len({*names}) > 100 and not any(name.startswith("_base_") for name in names)


def test_weights_of_the_project_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = "configs/quickstart/weights/digits_vit-adapter-t.safetensors"
    assert read_file("digits_svit-adapter-t").load_from == weights
    assert find_checkpoint(weights) == str(ROOT / weights) and "norm.weight" in " ".join(read_checkpoint(weights))
    (tmp_path / "configs/quickstart/weights").mkdir(parents=True)
    (tmp_path / weights).touch()
    assert find_file(weights) == weights and find_file("none.pth") == "none.pth"
    assert find_checkpoint(weights) == weights  # the user's file comes first
    with pytest.raises(CheckpointError, match="checkpoint none.pth does not exist"):
        find_checkpoint("none.pth")
    with pytest.raises(CheckpointError, match="pretrained/none.pth does not exist: pretrained/README.md says where"):
        find_checkpoint("pretrained/none.pth")


def test_the_command(capfd):
    assert all((ROOT / path).exists() for path in TOOLS.values())
    assert main(["configs", "pennfudan-800"]) == 0
    assert "mask_rcnn/pennfudan/vit-adapter-s_pennfudan-800" in capfd.readouterr().out.split()
    assert main(["configs", "qqq"]) == 2 and "no config has qqq in its name" in capfd.readouterr().err
    assert main(["prune"]) == 2 and "there is no prune; choose from train, test" in capfd.readouterr().err
    assert main([]) == 0 and "token-pruning train CONFIG" in capfd.readouterr().out


def test_the_command_becomes_the_tool(monkeypatch):
    """A parent that waited would print a traceback of its own at Ctrl-C."""
    called = []
    monkeypatch.setattr("os.execv", lambda program, arguments: called.append([program, *arguments]))
    main(["train", "CONFIG", "--amp"])
    assert called == [[sys.executable, sys.executable, str(ROOT / "tools/train.py"), "CONFIG", "--amp"]]
