"""Mask2Former on ViT-Adapter: a reducer learns, and the pixel decoder attends with this project's operator."""

from pathlib import Path

import pytest
import torch
from config_data import narrow_mask2former
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import init_default_scope

import mmdet_custom  # noqa: F401 - registers the detector and the backbone
import mmseg_custom  # noqa: F401 - registers the segmentor
from mmcv_custom.models.reducer_mixin import ReducerLosses
from token_pruning import METHODS
from token_pruning_ops import replace

BASES = Path(__file__).resolve().parents[2] / "configs" / "_base_" / "models"
SMALL = dict(
    model_name=None,
    img_size=64,
    class_token=True,
    embed_dim=24,
    depth=4,
    num_heads=3,
    interaction_indexes=[[0, 1], [2, 3]],
    conv_inplane=8,
    deform_num_heads=3,
    init_cfg=None,
)


def a_model(base, **reducer):
    cfg = Config.fromfile(BASES / f"{base}.py")
    model = cfg.model
    head = model.get("panoptic_head") or model.decode_head
    narrow_mask2former(head, model.get("train_cfg") or head.train_cfg, [24] * 4)
    model.backbone.update(SMALL, reducer=reducer or None)
    init_default_scope("mmdet" if "panoptic_head" in model else "mmseg")
    from mmseg.registry import MODELS as SEGMENTORS

    torch.manual_seed(0)
    return (MODELS if "panoptic_head" in model else SEGMENTORS).build(model)


@pytest.mark.parametrize("base", ["mask2former_vit_adapter", "mask2former_vit_adapter_semantic"])
def test_pixel_decoder_uses_this_operator(base, monkeypatch):
    model, shapes = a_model(base).eval(), []

    def counted(value, levels, locations, weights):
        shapes.append(levels)
        return ms_deform_attn(value, levels, locations, weights)

    ms_deform_attn = replace.ms_deform_attn
    monkeypatch.setattr(replace, "ms_deform_attn", counted)
    head = model.panoptic_head if hasattr(model, "panoptic_head") else model.decode_head
    with torch.no_grad():
        head.pixel_decoder(model.extract_feat(torch.rand(1, 3, 64, 96)))
    assert shapes == [[(2, 3), (4, 6), (8, 12)]] * 6


@pytest.mark.parametrize("name", ["SViT", "Cropr"])
def test_losses_and_logs(name):
    own = dict(SViT=dict(blocks=[2, 3], keep_ratio=0.5), Cropr=dict(keep_ratio=0.5, num_classes=80))[name]
    model = a_model("mask2former_vit_adapter", type=name, **own).train()
    assert isinstance(model, ReducerLosses) and isinstance(model.backbone.reducer, METHODS[name])
    data = demo_mm_inputs(2, [[3, 64, 96], [3, 96, 64]], num_items=[2, 0], num_classes=80, with_mask=True)
    losses = model(**model.data_preprocessor(data, True), mode="loss")  # the second image has no objects
    total, logged = model.parse_losses(losses)
    total.backward()
    assert total.isfinite() and any(key.startswith(("loss_ratio", "loss_aux")) for key in logged)
    assert all(p.grad is not None for p in model.backbone.reducer.parameters())


@pytest.mark.parametrize("base", ["mask2former_vit_adapter", "mask2former_vit_adapter_semantic"])
def test_a_batch_equals_its_images(base):
    model = a_model(base, type="ToMe", r=0.1).eval()
    images = torch.rand(2, 3, 64, 96)
    head = model.panoptic_head if hasattr(model, "panoptic_head") else model.decode_head
    samples = [type("Sample", (), dict(metainfo={}))()] * 2  # the decoder reads no more than their number
    with torch.no_grad():
        classes, masks = head(model.extract_feat(images), samples)
        single = [head(model.extract_feat(image[None]), samples[:1]) for image in images]
    for i, (own_classes, own_masks) in enumerate(single):
        torch.testing.assert_close(classes[-1][i], own_classes[-1][0], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(masks[-1][i], own_masks[-1][0], atol=1e-3, rtol=1e-3)
