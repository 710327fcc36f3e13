"""Converted weights compute the same features in mmsegmentation, timm and this project."""

import sys
from pathlib import Path

import ibot
import pytest
import to_mmseg
import to_published
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg.models.backbones import VisionTransformer as VisionTransformerOfMMSeg
from mmseg.registry import MODELS
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

import mmseg_custom  # noqa: F401 - registers
from mmcv_custom import CheckpointError, ConfigError, load_into
from mmdet_custom import ViTAdapter

ROOT = Path(__file__).resolve().parents[3]
VIT = dict(img_size=64, patch_size=16, embed_dim=24, depth=3, num_heads=3)


def convert(monkeypatch, tool, *arguments):
    monkeypatch.setattr(sys, "argv", [tool.__name__, *map(str, arguments)])
    tool.main()


def a_timm_vit(seed=1):
    torch.manual_seed(seed)
    vit = VisionTransformer(**VIT, num_classes=0).eval()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return vit


def an_ibot_file(path):
    def network(vit, prefix):
        state = {f"{prefix}backbone.{k}": v for k, v in vit.state_dict().items()}
        return state | {f"{prefix}backbone.masked_embed": torch.ones(1, 24), f"{prefix}head.mlp.0.bias": torch.ones(9)}

    student, teacher = a_timm_vit(1), a_timm_vit(2)
    torch.save(dict(student=network(student, "module."), teacher=network(teacher, ""), epoch=3, optimizer={}), path)
    return student, teacher


@pytest.mark.parametrize("network", [None, "teacher", "student"])
def test_ibot_to_mmsegmentation_and_timm(tmp_path, monkeypatch, capsys, network):
    student, teacher = an_ibot_file(tmp_path / "ibot.pth")
    chosen = ["--network", network] if network else []
    convert(monkeypatch, ibot, tmp_path / "ibot.pth", tmp_path / "new/folder/mmseg.pth", *chosen)
    said = capsys.readouterr().out
    other = "teacher" if network == "student" else "student"
    assert f"left out (no weights of it): {other}, epoch, optimizer" in said and "head.mlp.0.bias" in said
    convert(monkeypatch, ibot, tmp_path / "ibot.pth", tmp_path / "timm.pth", "--to", "timm", *chosen)
    source, image = student if network == "student" else teacher, torch.randn(2, 3, 64, 64)

    theirs = VisionTransformerOfMMSeg(
        img_size=64,
        patch_bias=True,
        embed_dims=24,
        num_layers=3,
        num_heads=3,
        final_norm=True,
        norm_cfg=dict(type="LN", eps=1e-6),
    )
    theirs.load_state_dict(torch.load(tmp_path / "new/folder/mmseg.pth", weights_only=True))  # strictly
    theirs.eval()
    copy = VisionTransformer(**VIT, num_classes=0).eval()
    copy.load_state_dict(torch.load(tmp_path / "timm.pth", weights_only=True))
    with torch.no_grad():
        wanted = source.forward_features(image)
        assert torch.equal(copy.forward_features(image), wanted)
        torch.testing.assert_close(theirs(image)[0].flatten(2).transpose(1, 2), wanted[:, 1:], atol=1e-5, rtol=1e-4)


def test_there_and_back_is_the_same_file(tmp_path, monkeypatch):
    state = a_timm_vit().state_dict()
    torch.save(dict(model=state), tmp_path / "timm.pth")
    convert(monkeypatch, ibot, tmp_path / "timm.pth", tmp_path / "mmseg.pth")
    convert(monkeypatch, ibot, tmp_path / "mmseg.pth", tmp_path / "back.pth", "--to", "timm")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(back) == list(state) and all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("pruned", [False, True])
def test_a_segmentor_of_ours_runs_in_stock_mmsegmentation(tmp_path, monkeypatch, capsys, pruned):
    """The shipped CamVid model; the pruned one is exported without its reducer."""
    init_default_scope("mmseg")
    torch.manual_seed(0)
    name = "vit-nano-svit_linear_camvid-352" if pruned else "vit-nano_linear_camvid-352"
    config = Config.fromfile(ROOT / f"configs/segmentation/{name}.py").model
    ours = MODELS.build(config).eval()
    meta = dict(dataset_meta=dict(classes=["sky"]), cfg="...", epoch=60)
    torch.save(dict(state_dict=ours.state_dict(), meta=meta, optimizer={}), tmp_path / "epoch_60.pth")
    convert(monkeypatch, to_mmseg, tmp_path / "epoch_60.pth", tmp_path / "exported.pth")
    said = capsys.readouterr().out
    assert "VisionTransformer(patch_bias=True, with_cls_token=True, final_norm=True" in said
    assert ("reducer.selectors" in said) == pruned and "left out (no weights of it): optimizer" in said

    backbone = dict(
        type="VisionTransformer",
        img_size=352,
        embed_dims=96,
        num_layers=6,
        num_heads=3,
        patch_bias=True,
        with_cls_token=True,
        final_norm=True,
        norm_cfg=dict(type="LN", eps=1e-6),
    )
    theirs = MODELS.build(
        ConfigDict(
            type="EncoderDecoder", backbone=backbone, decode_head=config.decode_head, test_cfg=dict(mode="whole")
        )
    )
    exported = torch.load(tmp_path / "exported.pth", weights_only=True)
    assert exported["meta"] == dict(dataset_meta=meta["dataset_meta"])
    theirs.load_state_dict(exported["state_dict"])  # strictly
    theirs.eval()
    ours.backbone.reducer = None
    image, meta = torch.randn(1, 3, 90, 130), dict(img_shape=(90, 130), ori_shape=(90, 130))
    with torch.no_grad():
        wanted, found = (model.inference(image, [meta]) for model in (ours, theirs))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


ADAPTER = dict(
    img_size=32,
    embed_dim=24,
    depth=4,
    num_heads=3,
    interaction_indexes=((0, 1), (2, 3)),
    conv_inplane=8,
)
SVIT = dict(type="SViT", blocks=[1, 2])
CROPR = dict(type="Cropr", prune_after=[0, 1], r=2, num_queries=4, num_classes=3, num_heads=3)


def an_adapter(seed, **options):
    torch.manual_seed(seed)
    backbone = ViTAdapter(**ADAPTER, **options)
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return torch.nn.ModuleDict(dict(backbone=backbone))


@pytest.mark.parametrize(
    "schema, options, published",
    [
        ("vit-adapter", dict(layer_scale=True), "backbone.blocks.0.gamma1"),
        ("svit", dict(), "backbone.blocks.0.TransformerEncoderLayer.linear1.weight"),
        ("svit", dict(reducer=SVIT), "backbone.selective_modules.0.norm.weight"),
        ("cropr", dict(reducer=CROPR), "cropr.0.cross_attn.queries"),
        ("cropr", dict(), "blocks.0.attn.qkv.weight"),
    ],
    ids=["dense", "svit dense", "svit", "cropr", "cropr dense"],
)
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_native_names_to_published_and_back(tmp_path, monkeypatch, capsys, schema, options, published, kind):
    source = an_adapter(1, **options)
    path = tmp_path / f"native.{kind}"
    if kind == "pth":
        meta = dict(dataset_meta=dict(classes=["cat"]), epoch=3)
        torch.save(dict(state_dict=source.state_dict(), meta=meta, optimizer={}), path)
    else:
        save_file(source.state_dict(), path)
    convert(monkeypatch, to_published, path, tmp_path / "new/published.pth", "--to", schema)
    said = capsys.readouterr().out
    assert ("left out (no weights of it): optimizer" in said) == (kind == "pth") and "(weights)" not in said
    file = torch.load(tmp_path / "new/published.pth", weights_only=True)
    assert published in file["state_dict"] and "epoch" not in file["meta"]

    convert(monkeypatch, to_published, tmp_path / "new/published.pth", tmp_path / "back.pth", "--to", "native")
    copy = an_adapter(2, **options)
    report = load_into(copy, tmp_path / "back.pth", logger="silent")
    assert not report.missing and not report.unexpected
    for name, value in copy.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name


def test_the_published_dense_model_has_no_reducer(tmp_path, monkeypatch, capsys):
    torch.save(an_adapter(1, reducer=SVIT).state_dict(), tmp_path / "svit.pth")
    convert(monkeypatch, to_published, tmp_path / "svit.pth", tmp_path / "dense.pth", "--to", "vit-adapter")
    assert "left out (weights): backbone.reducer.selectors.0." in capsys.readouterr().out
    dense = an_adapter(2)
    assert not load_into(dense, tmp_path / "dense.pth", logger="silent").unexpected


def test_what_cannot_be_converted_is_one_sentence_and_writes_nothing(tmp_path, monkeypatch):
    torch.save(a_timm_vit().state_dict(), tmp_path / "vit.pth")
    torch.save({"layers.0.blocks.0.norm1.weight": torch.ones(3)}, tmp_path / "swin.pth")
    torch.save({**a_timm_vit().state_dict(), "blocks.0.ls1.gamma": torch.ones(24)}, tmp_path / "scaled.pth")
    torch.save(dict(epoch=3, args="text"), tmp_path / "none.pth")
    torch.save(dict(model=a_timm_vit().state_dict(), net=torch.nn.Linear(1, 1)), tmp_path / "module.pth")
    (tmp_path / "there.pth").write_bytes(b"mine")
    for tool, error, sentence, arguments in [
        (ibot, ConfigError, "there.pth exists already: delete it or give another name", ["vit.pth", "there.pth"]),
        (to_mmseg, ConfigError, "there.pth exists already", ["vit.pth", "there.pth"]),
        (ibot, ConfigError, "out: weights are written as .pth", ["vit.pth", "out"]),
        (
            ibot,
            CheckpointError,
            "vit.pth has no student: leave --network out",
            ["vit.pth", "out.pth", "--network", "student"],
        ),
        (ibot, CheckpointError, "swin.pth holds no plain vision transformer", ["swin.pth", "out.pth"]),
        (ibot, CheckpointError, "none.pth holds no weights", ["none.pth", "out.pth"]),
        (
            ibot,
            CheckpointError,
            "scaled.pth has blocks.0.ls1.gamma, and mmsegmentation's ViT has nothing of that",
            ["scaled.pth", "out.pth"],
        ),
        (to_mmseg, CheckpointError, "has blocks.0.ls1.gamma", ["scaled.pth", "out.pth"]),
        (
            ibot,
            CheckpointError,
            "module.pth was not loaded because it holds .*Linear, which could run code",
            ["module.pth", "out.pth"],
        ),
        (to_published, ConfigError, "there.pth exists already", ["vit.pth", "there.pth", "--to", "native"]),
        (to_published, CheckpointError, "none.pth holds no weights", ["none.pth", "out.pth", "--to", "native"]),
        (
            to_published,
            CheckpointError,
            "scaled.pth has blocks.0.ls1.gamma, and the published SViT has no layer scale",
            ["scaled.pth", "out.pth", "--to", "svit"],
        ),
        (ibot, CheckpointError, "absent.pth does not exist", ["absent.pth", "out.pth"]),
    ]:
        with pytest.raises(error, match=sentence):
            convert(monkeypatch, tool, tmp_path / arguments[0], tmp_path / arguments[1], *arguments[2:])
    assert (tmp_path / "there.pth").read_bytes() == b"mine"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]
