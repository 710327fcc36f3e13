"""The linear decoder, also on EVA-02."""

import pytest
import timm
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

import mmseg_custom  # noqa: F401 - registers the models
from mmcv_custom import load_into
from token_pruning import StackForward

EVA02 = dict(
    type="PlainViTBackbone",
    model_name="eva02_base_patch14_224",
    img_size=32,
    patch_size=8,
    embed_dim=24,
    depth=4,
    num_heads=2,
)


def a_segmentor(**backbone):
    init_default_scope("mmseg")
    torch.manual_seed(0)
    return MODELS.build(
        ConfigDict(
            type="PrunedEncoderDecoder",
            backbone={**EVA02, **backbone},
            decode_head=dict(type="LinearHead", in_channels=24, num_classes=5, patch_size=8),
            test_cfg=dict(mode="whole"),
        )
    ).eval()


@torch.no_grad()
def test_images_are_cut_and_not_stretched():
    model, image = a_segmentor(), torch.randn(2, 3, 40, 64)
    image[..., 33:, :] = image[..., 59:] = 0
    part = image[..., :33, :59]
    whole, cut = (model.inference(x, [dict(img_shape=x.shape[2:], ori_shape=x.shape[2:])] * 2) for x in (image, part))
    assert cut.shape == (2, 5, 33, 59) and torch.equal(cut, whole[..., :33, :59])
    assert cut.abs().max() < 0.1  # starts at chance level


@pytest.mark.parametrize("name", ["eva02_base_patch14_224", "eva02_tiny_patch14_224"])
@torch.no_grad()
def test_timms_files_of_another_patch_and_grid_load(name):
    source = timm.create_model(name, img_size=28, patch_size=7, embed_dim=24, depth=4, num_heads=2, num_classes=0)
    model = a_segmentor(model_name=name)
    report = load_into(model, source.state_dict())
    assert {n for n, *_ in report.resized} == {"backbone.patch_embed.proj.weight"} and report.unexpected == []
    assert {n.split(".")[0] for n in report.missing} == {"decode_head"}
    wanted = start = torch.randn(1, 17, 24)
    for block in source.eval().blocks:
        wanted = block(wanted, rope=source.rope.get_embed())
    stack = StackForward(model.backbone.blocks, None, start, (4, 4), 1, rope=model.backbone.rotary_positions((4, 4)))
    stack.run(0, 3)
    torch.testing.assert_close(stack.map(with_prefix=True), wanted, atol=1e-5, rtol=1e-5)


def test_windows_with_rotary_positions_are_one_sentence():
    with pytest.raises(ValueError, match="has rotary positions or attention of its own, which do not run in windows"):
        a_segmentor(window_attn=[True] * 4)
