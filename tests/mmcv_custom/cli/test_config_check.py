import pytest
from mmengine.config import Config

from mmcv_custom import ConfigError
from mmcv_custom.cli.config_check import check_batch_size, check_config, check_options, unread_keys


def from_text(tmp_path, text):
    path = tmp_path / "config.py"
    path.write_text(text)
    return Config.fromfile(path)


@pytest.mark.parametrize(
    "line, meant",
    [
        ("change_key_name = True", "converted when they are loaded"),
        ("exp_name = 'x'", "experiment_name"),
        ("fp16 = dict(loss_scale=512.)", "AmpOptimWrapper"),
        ("optimizer_cfg = dict(lr=1)", "optim_wrapper"),
        ("train_dataloder = dict()", "did you mean train_dataloader"),
        ("zzz = 1", "delete it"),
    ],
)
def test_unread_key_is_one_sentence(tmp_path, line, meant):
    with pytest.raises(ConfigError, match=meant) as caught:
        check_config(from_text(tmp_path, line + "\nmodel = dict(type='A')\n"))
    assert line.split()[0] in str(caught.value)


def test_used_and_underscored_and_known_names_pass(tmp_path):
    (tmp_path / "base.py").write_text("side = 4\nsize = (side, side)\ntest_pipeline = []\nsync_bn = 'torch'\n")
    cfg = from_text(tmp_path, "_base_ = './base.py'\n_note = 1\nn = 3\nmodel = dict(scale={{_base_.size}}, n=n)\n")
    assert unread_keys(cfg) == []
    cfg.merge_from_dict(dict(load_form="x"))
    assert unread_keys(cfg) == ["config key load_form is read by nothing: did you mean load_from?"]


def test_configs_of_the_toolboxes_pass(tmp_path):
    pytest.importorskip("mmdet")
    assert unread_keys(from_text(tmp_path, "_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'\n")) == []


def test_keys_of_segmentation_pass(tmp_path):
    # mmseg's own files define these names, and a derived config replaces what used them.
    text = """
crop_size = (512, 512)
norm_cfg = dict(type='SyncBN')
data_preprocessor = dict(type='SegDataPreProcessor')
img_ratios = [1.0]
tta_pipeline = []
tta_model = dict(type='SegTTAModel')
data_root = 'data/ade'
dataset_type = 'ADE20KDataset'
model = dict(type='EncoderDecoder')
"""
    assert unread_keys(from_text(tmp_path, text)) == []
    assert "optim_wrapper.optimizer" in unread_keys(from_text(tmp_path, text + "optimizer = dict(type='SGD')\n"))[0]


def test_batch_size():
    cfg = Config(dict(train_dataloader=dict(batch_size=4), auto_scale_lr=dict(base_batch_size=16)))
    assert check_batch_size(cfg, 4) is None
    assert check_batch_size(cfg, 2) == (
        "total batch is 8 = 4 x 2 processes, the recipe's is 16: use --auto-scale-lr or train_dataloader.batch_size=8"
    )
    cfg.optim_wrapper = dict(accumulative_counts=2)
    assert check_batch_size(cfg, 2) is None
    cfg.auto_scale_lr.enable = True
    assert check_batch_size(cfg, 3) is None


def test_options_that_only_name_a_value_are_refused():
    cfg = Config(dict(data_root="data/coco/", train_dataloader=dict(dataset=dict(data_root="data/coco/"))))
    with pytest.raises(ConfigError, match="data_root=... changes nothing: .* Set train_dataloader.dataset.data_root"):
        check_options(cfg, {"data_root": "elsewhere/"})
    check_options(cfg, {"train_dataloader.dataset.data_root": "elsewhere/", "load_from": None})
