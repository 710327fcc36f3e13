"""Files of EoMT in the names of its authors and of transformers, in every model here."""

import re
import sys

import eomt_dinov3
import pytest
import torch
from fixture_files import of_schema
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

import mmdet_custom  # noqa: F401 - registers
import mmseg_custom  # noqa: F401 - registers
from mmcv_custom import CheckpointError, load_into
from mmcv_custom.checkpoint import eomt

BACKBONE = dict(
    type="EoMTEncoder",
    img_size=96,
    embed_dim=32,
    depth=4,
    num_heads=2,
    mlp_ratio=2,
    num_queries=6,
    query_blocks=2,
)
NAMES = ["vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3_qkvb"]


def models(name, classes=4):
    """Return a segmentor, a detector and an encoder with different weights."""
    from mmdet.registry import MODELS as DETECTORS
    from mmseg.registry import MODELS as SEGMENTORS

    torch.manual_seed(0)
    init_default_scope("mmseg")
    backbone = dict(BACKBONE, model_name=name)
    head = dict(in_channels=32, num_queries=6)
    segmentor = SEGMENTORS.build(
        dict(
            type="EoMTSegmentor",
            backbone=backbone,
            decode_head=dict(head, type="EoMTSemanticHead", num_classes=classes),
        )
    )
    init_default_scope("mmdet")
    things = dict(num_things_classes=classes, num_stuff_classes=0)
    detector = ConfigDict(
        type="EoMTDetector",
        backbone=backbone,
        panoptic_head=dict(type="EoMTPanopticHead", **head, **things),
        panoptic_fusion_head=dict(type="MaskFormerFusionHead", **things),
        test_cfg=dict(),
    )
    return segmentor, DETECTORS.build(detector), SEGMENTORS.build(dict(backbone))


def released(state):
    """Return weights with the names of EoMT's authors, as their files have them (DINOv2: all, DINOv3: the form)."""
    out = {}
    for name, value in state.items():
        if name.startswith("backbone.query"):
            out["network.q.weight"] = value
        elif name == "backbone.attn_mask_probs":
            out["network.attn_mask_probs"] = value
        elif name.startswith("backbone."):
            out["network.encoder.backbone." + name.removeprefix("backbone.")] = value
        else:
            out["network." + name.split(".network.")[-1]] = value
    out["network.encoder.pixel_mean"] = out["network.encoder.pixel_std"] = torch.ones(1, 3, 1, 1)
    return out | {"criterion.empty_weight": torch.ones(5)}


def random_weights(model):
    """Return a state dict of a model with other weights."""
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }


@pytest.mark.parametrize("wrapped", [lambda s: s, lambda s: dict(state_dict=s, epoch=1)])
def test_released_file(wrapped):
    segmentor, detector, encoder = models(NAMES[0])
    weights = random_weights(segmentor)
    for model, prefix in ((segmentor, "decode_head."), (detector, "panoptic_head.")):
        report = load_into(model, wrapped(released(weights)), logger="silent")
        assert report.schema == "released EoMT" and not (report.missing or report.unexpected or report.mismatched)
        for name, value in weights.items():
            assert torch.equal(model.state_dict()[name.replace("decode_head.", prefix)], value), name
    report = load_into(encoder, wrapped(released(weights)), logger="silent")
    assert not (report.missing or report.mismatched)
    assert torch.equal(encoder.query.weight, weights["backbone.query.weight"])
    assert encoder.mask_probs == pytest.approx(weights["backbone.attn_mask_probs"].tolist())


def test_another_number_of_classes_keeps_the_rest():
    weights = random_weights(models(NAMES[0])[0])
    _, detector, _ = models(NAMES[0], classes=7)
    report = load_into(detector, released(weights), logger="silent")
    assert [name for name, _, _ in report.mismatched] == [
        f"panoptic_head.network.class_head.{k}" for k in ("weight", "bias")
    ]


@pytest.mark.parametrize("recorded", of_schema("eomt-fixture-1"))
def test_transformers_file(recorded):
    state = {name: value.float() for name, value in recorded["state_dict"].items()}
    name = NAMES["embeddings.position_embeddings.weight" not in state]
    segmentor, detector, encoder = models(name)
    for model in (segmentor, detector, encoder):
        report = load_into(model, state, logger="silent")
        assert report.schema == "transformers' EoMT" and not (report.missing or report.mismatched)
    q, k, v = (state[f"layers.1.attention.{part}_proj.weight"] for part in "qkv")
    assert torch.equal(encoder.blocks[1].attn.qkv.weight, torch.cat([q, k, v]))
    assert torch.equal(detector.panoptic_head.network.mask_head[4].bias, state["mask_head.fc3.bias"])
    assert torch.equal(
        segmentor.decode_head.network.upscale[1].norm.weight, state["upscale_block.block.1.layernorm2d.weight"]
    )


def test_gated_mlps():
    gate, up, down = torch.randn(6, 4), torch.randn(6, 4), torch.randn(4, 6)
    state = {f"layers.0.mlp.{name}_proj.weight": value for name, value in dict(gate=gate, up=up, down=down).items()}
    packed = eomt.vit(state)
    assert torch.equal(packed["blocks.0.mlp.fc1.weight"], torch.cat([gate, up]))
    apart = eomt.vit(state, ["blocks.0.mlp.fc1_g.weight"])
    assert torch.equal(apart["blocks.0.mlp.fc1_g.weight"], gate) and torch.equal(apart["blocks.0.mlp.fc1_x.weight"], up)
    assert torch.equal(apart["blocks.0.mlp.fc2.weight"], down)


def deltas(state, base):
    """Return the released form of weights with DINOv3: the encoder's as differences, in transformers' names."""
    out = {name: value for name, value in released(state).items() if not name.startswith("network.encoder.backbone.")}
    for name, value in base.items():
        inner = re.sub(r"^embeddings\.", "patch_embed.", re.sub(r"^layer\.", "blocks.", name))
        out["network.encoder.backbone." + inner] = torch.full_like(value, 0.5)
    return out


def dinov3(embed=32, blocks=4, mlp=64):
    """Return weights of a small DINOv3 with transformers' names."""
    torch.manual_seed(3)
    shapes = {
        "embeddings.cls_token": (1, 1, embed),
        "embeddings.mask_token": (1, 1, embed),
        "embeddings.register_tokens": (1, 4, embed),
        "embeddings.patch_embeddings.weight": (embed, 3, 16, 16),
        "embeddings.patch_embeddings.bias": (embed,),
        "norm.weight": (embed,),
        "norm.bias": (embed,),
    }
    for i in range(blocks):
        own = {f"norm{k}.{kind}": (embed,) for k in (1, 2) for kind in ("weight", "bias")}
        own |= {f"layer_scale{k}.lambda1": (embed,) for k in (1, 2)}
        own |= {f"attention.{part}_proj.weight": (embed, embed) for part in "qkvo"}
        own |= {f"attention.{part}_proj.bias": (embed,) for part in "qvo"}
        own |= {"mlp.up_proj.weight": (mlp, embed), "mlp.up_proj.bias": (mlp,)}
        own |= {"mlp.down_proj.weight": (embed, mlp), "mlp.down_proj.bias": (embed,)}
        shapes |= {f"layer.{i}.{name}": shape for name, shape in own.items()}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("form", ["transformers", "timm"])
def test_differences_to_dinov3_are_added(tmp_path, monkeypatch, form):
    segmentor, detector, _ = models(NAMES[1])
    base, weights = dinov3(), random_weights(segmentor)
    given = deltas(weights, base)
    with pytest.raises(CheckpointError, match="holds differences to the weights of DINOv3, not weights: add them with"):
        load_into(segmentor, given, logger="silent")
    written = base
    if form == "timm":
        written = {
            k.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): v for k, v in eomt.vit(base).items()
        }
    torch.save(written, tmp_path / "dinov3.pth")
    torch.save(given, tmp_path / "deltas.bin")
    names = [str(tmp_path / name) for name in ("dinov3.pth", "deltas.bin", "sum.pth")]
    monkeypatch.setattr(sys, "argv", ["eomt_dinov3", *names])
    eomt_dinov3.main()
    report = load_into(detector, names[2], logger="silent")
    assert not (report.missing or report.unexpected or report.mismatched)
    block = detector.backbone.blocks[2]
    assert torch.equal(block.attn.proj.weight, base["layer.2.attention.o_proj.weight"] + 0.5)
    assert torch.equal(block.gamma_2, base["layer.2.layer_scale2.lambda1"] + 0.5)
    assert torch.equal(detector.backbone.query.weight, weights["backbone.query.weight"])
    assert torch.equal(detector.panoptic_head.network.class_head.bias, weights["decode_head.network.class_head.bias"])

    torch.save(dinov3(embed=16), tmp_path / "small.pth")
    monkeypatch.setattr(
        sys, "argv", ["eomt_dinov3", str(tmp_path / "small.pth"), names[1], str(tmp_path / "other.pth")]
    )
    with pytest.raises(CheckpointError, match="give the weights of the DINOv3 that the file was trained from"):
        eomt_dinov3.main()
    monkeypatch.setattr(sys, "argv", ["eomt_dinov3", names[0], names[0], str(tmp_path / "other.pth")])
    with pytest.raises(CheckpointError, match="no released EoMT file with DINOv3: there is nothing to add"):
        eomt_dinov3.main()
