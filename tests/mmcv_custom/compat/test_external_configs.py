"""Configs of the toolboxes are found by name: bases without reading their lists of models."""

import pytest
from mmengine.config import Config, utils

import mmcv_custom  # noqa: F401 - imports what is tested


@pytest.mark.parametrize(
    ("base", "key"),
    [
        ("mmdet::_base_/default_runtime.py", "default_hooks"),
        ("mmdet::_base_/models/mask-rcnn_r50_fpn.py", "model"),
        ("mmpretrain::_base_/default_runtime.py", "default_hooks"),
        ("mmseg::_base_/models/segmenter_vit-b16_mask.py", "model"),
    ],
)
def test_bases_are_found_without_the_lists(base, key, tmp_path, monkeypatch):
    monkeypatch.setattr(utils, "load", None)  # what reads the lists
    (tmp_path / "c.py").write_text(f"_base_ = {base!r}\n")
    assert key in Config.fromfile(tmp_path / "c.py")


def test_listed_models_are_found(tmp_path):
    (tmp_path / "c.py").write_text("_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'\n")
    assert Config.fromfile(tmp_path / "c.py").model.type == "MaskRCNN"


def test_a_base_that_is_not_there_is_an_error(tmp_path):
    (tmp_path / "c.py").write_text("_base_ = 'mmdet::_base_/models/none.py'\n")
    with pytest.raises(Exception, match="none.py"):
        Config.fromfile(tmp_path / "c.py")
