"""Published checkpoints of plain ViTs and of DToP in our backbones and segmentors: every tensor is loaded.

They are loaded by ``init_cfg`` and as a whole model's weights.

Shapes: C channels; grids of patches h x w.
"""

from collections import OrderedDict

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from timm.models.vision_transformer import VisionTransformer

import mmseg_custom  # noqa: F401 - registers
from mmcv_custom import CheckpointError, load_into
from mmcv_custom.checkpoint import key_maps
from mmcv_custom.checkpoint.pos_embed import resize_pos_embed

K, SIZE, FILE_SIZE = 5, 64, 96  # the checkpoints' image size differs


def a_segmentor(kind="StagedViT", backbone_from=None, **whole):
    init_default_scope("mmseg")
    torch.manual_seed(0)
    backbone = dict(type=kind, img_size=SIZE, embed_dim=24, depth=3, num_heads=3, init_cfg=backbone_from)
    head = dict(type="SegViTHead", in_channels=24, channels=12, num_classes=K, num_heads=3)
    if kind == "StagedViT":
        parts = dict(
            type="DToPSegmentor",
            auxiliary_head=[dict(head, in_index=i) for i in (0, 1)],
            decode_head=dict(head, in_index=2),
        )
        backbone["out_indices"] = [0, 1, 2]
    else:
        parts = dict(
            type="PrunedEncoderDecoder",
            decode_head=dict(
                type="FCNHead", in_channels=24, channels=24, num_convs=0, concat_input=False, num_classes=K
            ),
        )
    return MODELS.build(ConfigDict(backbone=backbone, test_cfg=dict(mode="whole"), **parts, **whole))


def a_timm_state(seed=1):
    """Build a timm model with random weights everywhere, so that no tensor is as a constructor leaves it."""
    torch.manual_seed(seed)
    vit = VisionTransformer(img_size=FILE_SIZE, patch_size=16, embed_dim=24, depth=3, num_heads=3, num_classes=7)
    return {name: torch.randn_like(value) for name, value in vit.state_dict().items()}


def an_ibot_network(prefix, seed):
    backbone = {k: v for k, v in a_timm_state(seed).items() if not k.startswith("head")}
    head = {f"head.{k}": torch.randn(4, 24) for k in ("mlp.0.weight", "mlp.2.weight", "last_layer.weight_v")}
    named = {f"backbone.{k}": v for k, v in dict(backbone, masked_embed=torch.randn(1, 24)).items()} | head
    return {prefix + k: v for k, v in named.items()}


FILES = {
    "timm": lambda: a_timm_state(),
    "DeiT": lambda: dict(model=a_timm_state()),
    "AugReg of OpenMMLab": lambda: key_maps.to_mmseg(a_timm_state()),
    "mmsegmentation's own": lambda: dict(
        state_dict=key_maps.to_mmseg({f"backbone.{k}": v for k, v in a_timm_state().items()})
    ),
    "iBOT": lambda: dict(student=an_ibot_network("module.", 2), teacher=an_ibot_network("", 1), epoch=3),
    "iBOT's teacher, distributed": lambda: dict(teacher=an_ibot_network("module.", 1)),
    "iBOT's backbone": lambda: dict(state_dict={k: v for k, v in a_timm_state().items() if "head" not in k}),
    "iBOT's teacher, extracted with its head": lambda: dict(state_dict=an_ibot_network("module.", 1)),
}


@pytest.mark.parametrize("how", ["backbone.init_cfg", "init_cfg", "load_into"])
@pytest.mark.parametrize("kind", ["StagedViT", "PlainViTBackbone"])
@pytest.mark.parametrize("name", FILES)
def test_a_published_vit_fills_the_backbone(tmp_path, name, kind, how):
    torch.save(FILES[name](), tmp_path / "vit.pth")
    pretrained = dict(type="Pretrained", checkpoint=str(tmp_path / "vit.pth"))
    if how != "load_into":
        model = a_segmentor(kind, pretrained) if "backbone" in how else a_segmentor(kind, **{how: pretrained})
        model.init_weights()
        assert model.init_cfg == (pretrained if how == "init_cfg" else None)
    else:
        model = a_segmentor(kind)
        report = load_into(model, tmp_path / "vit.pth")
        assert all(not missing.startswith("backbone.") for missing in report.missing) and not report.mismatched
    wanted = dict(a_timm_state())
    wanted["pos_embed"] = resize_pos_embed(wanted["pos_embed"], (SIZE // 16,) * 2)
    own = model.backbone.state_dict()
    assert {"patch_embed.proj.bias", "pos_embed", "blocks.2.mlp.fc2.bias"} <= own.keys()
    for key, value in own.items():
        assert torch.equal(value, wanted[key]), key


def test_a_released_dtop_fills_the_whole_segmentor():
    """Released files have an unused class token, and a buffer of the loss."""
    source, model = a_segmentor(), a_segmentor()
    state = OrderedDict((k, torch.randn_like(v)) for k, v in source.state_dict().items())
    published = key_maps.to_mmseg(state) | {
        "backbone.cls_token": torch.zeros(1, 1, 24),
        "decode_head.loss_decode.criterion.empty_weight": torch.ones(2),
    }
    assert {
        "backbone.layers.2.ln2.bias",
        "backbone.layers.0.attn.attn.in_proj_weight",
        "auxiliary_head.1.decoder.layers.0.multihead_attn.proj.weight",
        "decode_head.q.weight",
    } <= published.keys()
    report = load_into(model, dict(state_dict=published, meta=dict(epoch=1)))
    assert not report.missing and not report.mismatched and not report.resized
    assert report.unexpected == ["backbone.cls_token", "decode_head.loss_decode.criterion.empty_weight"]
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_our_names_go_to_mmsegmentation_and_back():
    for kind in ("StagedViT", "PlainViTBackbone"):
        state = a_segmentor(kind).state_dict()
        back = key_maps.from_published(key_maps.to_mmseg(state))
        assert list(back) == list(state) and all(back[key] is state[key] for key in state)


def test_a_backbone_with_heads_of_another_model_is_still_refused():
    other = {f"backbone.{k}": v for k, v in a_timm_state().items()} | {"roi_head.fc.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="is of another model"):
        load_into(a_segmentor(), other)
