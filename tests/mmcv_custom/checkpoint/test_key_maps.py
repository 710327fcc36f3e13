import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from mmcv_custom.checkpoint import key_maps
from mmcv_custom.checkpoint.wrappers import unwrap

ROOT = Path(__file__).resolve().parents[3]
PLACES = [os.environ.get("PARITY_FIXTURES", ROOT.parent / "shared" / "fixtures"), ROOT / "tests" / "fixtures"]


def recorded():
    for place in map(Path, PLACES):
        for path in sorted(place.rglob("*.pt")):
            data = torch.load(path, weights_only=True)
            if isinstance(data, dict) and data.get("kind") == "key_rename":
                return data
    pytest.skip("no recorded key mapping (kind key_rename) under PARITY_FIXTURES or tests/fixtures")


def named(names):
    return OrderedDict((n, torch.tensor(i)) for i, n in enumerate(names))


def test_matches_the_recorded_mapping():
    data = recorded()
    old, new = zip(*data["dense_to_selective"], strict=True)
    native = key_maps.from_published(named(old))
    assert list(key_maps.to_published_selective(native)) == list(new)
    assert list(key_maps.from_published(named(new))) == list(native)
    selectors = data["selective_only_keys"]
    assert list(key_maps.to_published_selective(key_maps.from_published(named(selectors)))) == selectors


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_every_schema_becomes_native_and_stays(prefix):
    published = [
        "blocks.3.gamma1",
        "blocks.3.TransformerEncoderLayer.self_attn.in_proj_weight",
        "blocks.11.TransformerEncoderLayer.self_attn.out_proj.bias",
        "blocks.3.TransformerEncoderLayer.linear1.weight",
        "blocks.3.TransformerEncoderLayer.norm2.bias",
        "selective_modules.8.mlp.fc1.bias",
        "selective_modules.0.norm.weight",
        "interactions.0.injector.gamma",
        "pos_embed",
    ]
    native = [
        "blocks.3.ls1.gamma",
        "blocks.3.attn.qkv.weight",
        "blocks.11.attn.proj.bias",
        "blocks.3.mlp.fc1.weight",
        "blocks.3.norm2.bias",
        "reducer.selectors.8.mlp.fc1.bias",
        "reducer.selectors.0.norm.weight",
        "interactions.0.injector.gamma",
        "pos_embed",
    ]
    once = key_maps.from_published(named(prefix + n for n in published))
    assert list(once) == [prefix + n for n in native]
    assert list(key_maps.from_published(once)) == list(once)


def test_the_evo_vit_adapter_becomes_native():
    data = recorded()
    native = key_maps.from_published(data["evo_example_renamed"])
    assert native.keys() == data["evo_example_dense"].keys()
    for name, value in data["evo_example_dense"].items():
        assert torch.equal(native[name], value)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_the_vit_of_mmsegmentation_becomes_native_and_stays(prefix):
    published = [
        "cls_token",
        "patch_embed.projection.weight",
        "patch_embed.projection.bias",
        "layers.0.ln1.bias",
        "layers.11.attn.attn.in_proj_weight",
        "layers.11.attn.attn.in_proj_bias",
        "layers.3.attn.attn.out_proj.weight",
        "layers.3.attn.attn.out_proj.bias",
        "layers.3.ln2.weight",
        "layers.3.ffn.layers.0.0.weight",
        "layers.3.ffn.layers.1.bias",
        "ln1.weight",
    ]
    native = [
        "cls_token",
        "patch_embed.proj.weight",
        "patch_embed.proj.bias",
        "blocks.0.norm1.bias",
        "blocks.11.attn.qkv.weight",
        "blocks.11.attn.qkv.bias",
        "blocks.3.attn.proj.weight",
        "blocks.3.attn.proj.bias",
        "blocks.3.norm2.weight",
        "blocks.3.mlp.fc1.weight",
        "blocks.3.mlp.fc2.bias",
        "norm.weight",
    ]
    heads = ["decode_head.decoder.layers.0.self_attn.in_proj_weight", "decode_head.decoder.layers.1.norm1.bias"]
    state = named([prefix + n for n in published] + heads)
    once = key_maps.from_published(state)
    assert list(once) == [prefix + n for n in native] + heads
    assert list(key_maps.from_published(once)) == list(once)
    assert key_maps.describe(state) == "mmsegmentation ViT"
    back = key_maps.to_mmseg({name: once[name] for name in once if prefix or name not in heads})
    assert back == {name: state[name] for name in state if prefix or name not in heads}


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_layers_of_mmsegmentation_without_a_bias_get_one_of_zeros(prefix):
    """patch_bias=False, and qkv_bias=False, which also drops the bias of the attention's projection."""
    state = {
        f"{prefix}patch_embed.projection.weight": torch.ones(3, 2, 1, 1),
        f"{prefix}layers.0.attn.attn.in_proj_weight": torch.ones(9, 3),
        f"{prefix}layers.0.attn.attn.out_proj.weight": torch.ones(3, 3),
    }
    native = key_maps.from_published(state)
    for name in ("patch_embed.proj.bias", "blocks.0.attn.proj.bias"):
        assert torch.equal(native[prefix + name], torch.zeros(3))
    assert len(native) == 5 and list(key_maps.from_published(native)) == list(native)
    unbiased = [prefix + "blocks.0.attn.qkv.weight"]
    assert list(key_maps.fit_qkv_bias(native, unbiased)) == list(native)
    fitted = key_maps.fit_qkv_bias(native, [*unbiased, prefix + "blocks.0.attn.qkv.bias"])
    assert torch.equal(fitted[prefix + "blocks.0.attn.qkv.bias"], torch.zeros(9)) and len(fitted) == 6
    back = key_maps.to_mmseg(native)
    assert torch.equal(back[f"{prefix}layers.0.attn.attn.in_proj_bias"], torch.zeros(9))


def test_parts_of_pretraining_are_left_out_for_mmsegmentation():
    names = [
        "pos_embed",
        "mask_token",
        "masked_embed",
        "head.mlp.0.weight",
        "head_dist.bias",
        "fc_norm.weight",
        "reducer.selectors.0.norm.bias",
        "norm.bias",
    ]
    table = dict(pos_embed=torch.zeros(1, 1 + 6 * 6, 4))
    assert list(key_maps.to_mmseg(named(names) | table)) == ["pos_embed", "ln1.bias"]
    full = [f"backbone.{name}" for name in names] + ["decode_head.conv_seg.bias"]
    found = key_maps.to_mmseg(named(full) | {"backbone.pos_embed": table["pos_embed"]})
    assert list(found) == ["backbone.pos_embed", "backbone.ln1.bias", "decode_head.conv_seg.bias"]


@pytest.mark.parametrize(
    "name", ["blocks.0.ls1.gamma", "dist_token", "norm_pre.weight", "spm.stem.0.weight", "blocks.0.attn.q_norm.weight"]
)
def test_what_mmsegmentations_vit_does_not_have_is_named(name):
    with pytest.raises(ValueError, match=f"has {name}, and mmsegmentation's ViT has nothing of that kind"):
        key_maps.to_mmseg(named([name]))


def test_a_table_without_a_class_row_is_refused_for_mmsegmentation():
    state = OrderedDict(pos_embed=torch.zeros(1, 49, 4))
    with pytest.raises(ValueError, match="table of 49 rows, none of which is a class token's"):
        key_maps.to_mmseg(state)
    state._metadata = {"": dict(version=1, table_grid=(6, 8))}
    assert list(key_maps.to_mmseg(state)) == ["pos_embed"]


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_cropr_becomes_native_and_goes_back(prefix):
    published = ["blocks.0.norm1.weight", "cropr.0.cross_attn.queries", "cropr.11.head.head.bias", "head.bias"]
    state = named(prefix + n for n in published)
    native = key_maps.from_published(state)
    assert key_maps.describe(state) == "published Cropr" and list(key_maps.from_published(native)) == list(native)
    assert list(native)[1:3] == [
        prefix + "reducer.routers.0.cross_attn.queries",
        prefix + "reducer.routers.11.head.head.bias",
    ]
    assert list(key_maps.to_published_cropr(native)) == published
    with pytest.raises(ValueError, match="has folded routers, and the published Cropr has none"):
        key_maps.to_published_cropr(named(["reducer.routers.0.folded"]))


def test_a_network_with_a_linear_head_fits_a_segmentor_and_its_backbone():
    file = OrderedDict(
        {
            "blocks.0.norm1.bias": torch.zeros(2),
            "fc_norm.bias": torch.ones(2),
            "head.weight": torch.arange(6.0).view(3, 2),
            "head.bias": torch.ones(3),
        }
    )
    segmentor = [
        "backbone.blocks.0.norm1.bias",
        "backbone.norm.bias",
        "decode_head.conv_seg.weight",
        "decode_head.conv_seg.bias",
        "backbone.norm.weight",
    ]
    file["fc_norm.weight"] = torch.ones(2)
    fitted = key_maps.fit_linear_segmentor(file, segmentor)
    assert list(fitted) == segmentor and fitted["decode_head.conv_seg.weight"].shape == (3, 2, 1, 1)
    back = key_maps.to_published_cropr(fitted)
    assert list(back) == list(file) and torch.equal(back["head.weight"], file["head.weight"])
    backbone = key_maps.fit_linear_segmentor(file, ["blocks.0.norm1.bias", "norm.weight", "norm.bias"])
    assert list(backbone) == ["blocks.0.norm1.bias", "norm.bias", "head.weight", "head.bias", "norm.weight"]
    classifier = ["backbone.blocks.0.norm1.bias", "backbone.fc_norm.weight", "backbone.head.bias"]
    assert key_maps.fit_linear_segmentor(file, classifier) is file
    plain = named(["norm.weight", "head.weight"])
    assert key_maps.fit_linear_segmentor(plain, segmentor) is plain


def test_patches_of_another_size_give_the_same_tokens():
    torch.manual_seed(0)
    weight = torch.randn(8, 3, 7, 7)
    larger = key_maps.fit_patches("backbone.patch_embed.proj.weight", weight, torch.empty(8, 3, 14, 14))
    image = torch.randn(1, 3, 7, 7)
    resized = torch.nn.functional.interpolate(image, (14, 14), mode="bicubic", antialias=True)
    torch.testing.assert_close((larger * resized).sum((1, 2, 3)), (weight * image).sum((1, 2, 3)), atol=1e-2, rtol=1e-3)
    assert key_maps.fit_patches("patch_embed.proj.weight", weight, torch.empty(9, 3, 14, 14)) is None
    assert key_maps.fit_patches("head.weight", weight, torch.empty(8, 3, 14, 14)) is None


def test_names_of_other_modules_are_left_alone():
    names = ["decode_head.my_blocks.0.gamma1", "roi_head.mlp.fc1.weight", "backbone.layers.0.attn.qkv.weight"]
    assert list(key_maps.from_published(named(names))) == names


def test_weights_of_another_reducer_have_no_published_name():
    for convert in (key_maps.to_published_selective, key_maps.to_published_cropr):
        with pytest.raises(ValueError, match="has reducer.predictors.0.weight, a weight of another reducer than"):
            convert(named(["reducer.predictors.0.weight"]))


def test_native_to_published():
    assert list(key_maps.to_published_dense(named(["blocks.0.ls2.gamma", "reducer.selectors.0.norm.bias"]))) == [
        "blocks.0.gamma2"
    ]
    with pytest.raises(ValueError, match="no layer scale"):
        key_maps.to_published_selective(named(["blocks.0.gamma1"]))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "meta": {}},
        lambda s: {"model": s},
        lambda s: {"student": {"b": torch.ones(1)}, "teacher": s, "epoch": 3},
    ],
)
def test_unwrap(wrap):
    state = {"a.weight": torch.ones(1)}
    assert list(unwrap(wrap(state))) == ["a.weight"]
    assert list(unwrap(wrap({"module.a.weight": torch.ones(1)}))) == ["a.weight"]
    with pytest.raises(ValueError, match="holds no weights"):
        unwrap(wrap({}))


def test_align_prefix():
    detector, backbone = ["backbone.pos_embed", "neck.weight"], ["pos_embed"]
    state, only = key_maps.align_prefix(named(backbone), detector)
    assert list(state) == ["backbone.pos_embed"] and only
    state, only = key_maps.align_prefix(named(detector), backbone)
    assert list(state) == ["pos_embed"]
    assert list(key_maps.align_prefix(named(detector), detector)[0]) == detector


def test_layers_of_a_head_are_not_renamed():
    names = ["backbone.layers.0.attn.attn.in_proj_weight", "decode_head.layers.0.attn.attn.in_proj_weight"]
    assert list(key_maps.from_published(named(names))) == ["backbone.blocks.0.attn.qkv.weight", names[1]]
    assert list(key_maps.from_published(named(names[1:]))) == names[1:]


def test_metadata_of_a_state_dict_is_kept():
    state = named(["module.pos_embed", "module.head.weight"])
    state._metadata = OrderedDict({"module": dict(table_grid=(2, 8)), "module.head": dict(version=1)})
    assert dict(unwrap(state)._metadata) == {"": dict(table_grid=(2, 8)), "head": dict(version=1)}
