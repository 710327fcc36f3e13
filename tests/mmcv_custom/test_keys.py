import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from mmcv_custom import keys

ROOT = Path(__file__).resolve().parents[2]
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
    house = keys.from_published(named(old))
    assert list(keys.to_published_selective(house)) == list(new)
    assert list(keys.from_published(named(new))) == list(house)
    selectors = data["selective_only_keys"]
    assert list(keys.to_published_selective(keys.from_published(named(selectors)))) == selectors


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_every_schema_lands_on_the_house_names_and_stays(prefix):
    published = ["blocks.3.gamma1", "blocks.3.TransformerEncoderLayer.self_attn.in_proj_weight",
                 "blocks.11.TransformerEncoderLayer.self_attn.out_proj.bias",
                 "blocks.3.TransformerEncoderLayer.linear1.weight", "blocks.3.TransformerEncoderLayer.norm2.bias",
                 "selective_modules.8.mlp.fc1.bias", "selective_modules.0.norm.weight", "interactions.0.injector.gamma",
                 "pos_embed"]
    house = ["blocks.3.ls1.gamma", "blocks.3.attn.qkv.weight", "blocks.11.attn.proj.bias", "blocks.3.mlp.fc1.weight",
             "blocks.3.norm2.bias", "reducer.selectors.8.mlp.fc1.bias", "reducer.selectors.0.norm.weight",
             "interactions.0.injector.gamma", "pos_embed"]
    once = keys.from_published(named(prefix + n for n in published))
    assert list(once) == [prefix + n for n in house]
    assert list(keys.from_published(once)) == list(once)


def test_the_evo_vit_adapter_lands_on_the_house_names():
    data = recorded()
    house = keys.from_published(data["evo_example_renamed"])
    assert house.keys() == data["evo_example_dense"].keys()
    for name, value in data["evo_example_dense"].items():
        assert torch.equal(house[name], value)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_the_vit_of_mmsegmentation_lands_on_the_house_names_and_stays(prefix):
    published = ["cls_token", "patch_embed.projection.weight", "layers.0.ln1.bias",
                 "layers.11.attn.attn.in_proj_weight", "layers.3.attn.attn.in_proj_bias",
                 "layers.3.attn.attn.out_proj.weight", "layers.3.ln2.weight", "layers.3.ffn.layers.0.0.weight",
                 "layers.3.ffn.layers.1.bias", "ln1.weight"]
    house = ["cls_token", "patch_embed.proj.weight", "blocks.0.norm1.bias", "blocks.11.attn.qkv.weight",
             "blocks.3.attn.qkv.bias", "blocks.3.attn.proj.weight", "blocks.3.norm2.weight", "blocks.3.mlp.fc1.weight",
             "blocks.3.mlp.fc2.bias", "norm.weight"]
    heads = ["decode_head.decoder.layers.0.self_attn.in_proj_weight", "decode_head.decoder.layers.1.norm1.bias"]
    state = named([prefix + n for n in published] + heads)
    once = keys.from_published(state)
    assert list(once) == [prefix + n for n in house] + heads
    assert list(keys.from_published(once)) == list(once)
    assert keys.describe(state) == "mmsegmentation ViT"


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_cropr_lands_on_the_house_names_and_goes_back(prefix):
    published = ["blocks.0.norm1.weight", "cropr.0.cross_attn.queries", "cropr.11.head.head.bias", "head.bias"]
    state = named(prefix + n for n in published)
    house = keys.from_published(state)
    assert keys.describe(state) == "published Cropr" and list(keys.from_published(house)) == list(house)
    assert list(house)[1:3] == [prefix + "reducer.routers.0.cross_attn.queries",
                                prefix + "reducer.routers.11.head.head.bias"]
    assert list(keys.to_published_cropr(house)) == published
    with pytest.raises(ValueError, match="folded routers cannot be written in the published schema"):
        keys.to_published_cropr(named(["reducer.routers.0.folded"]))


def test_a_network_with_a_linear_head_fits_a_segmentor_and_its_backbone():
    file = OrderedDict({"blocks.0.norm1.bias": torch.zeros(2), "fc_norm.bias": torch.ones(2),
                        "head.weight": torch.arange(6.0).view(3, 2), "head.bias": torch.ones(3)})
    segmentor = ["backbone.blocks.0.norm1.bias", "backbone.norm.bias", "decode_head.conv_seg.weight",
                 "decode_head.conv_seg.bias", "backbone.norm.weight"]
    file["fc_norm.weight"] = torch.ones(2)
    fitted = keys.fit_linear_segmentor(file, segmentor)
    assert list(fitted) == segmentor and fitted["decode_head.conv_seg.weight"].shape == (3, 2, 1, 1)
    back = keys.to_published_cropr(fitted)
    assert list(back) == list(file) and torch.equal(back["head.weight"], file["head.weight"])
    backbone = keys.fit_linear_segmentor(file, ["blocks.0.norm1.bias", "norm.weight", "norm.bias"])
    assert list(backbone) == ["blocks.0.norm1.bias", "norm.bias", "head.weight", "head.bias", "norm.weight"]
    classifier = ["backbone.blocks.0.norm1.bias", "backbone.fc_norm.weight", "backbone.head.bias"]
    assert keys.fit_linear_segmentor(file, classifier) is file
    plain = named(["norm.weight", "head.weight"])
    assert keys.fit_linear_segmentor(plain, segmentor) is plain


def test_patches_of_another_size_give_the_same_tokens():
    weight = torch.randn(8, 3, 7, 7)
    larger = keys.fit("backbone.patch_embed.proj.weight", weight, torch.empty(8, 3, 14, 14))
    image = torch.randn(1, 3, 7, 7)
    resized = torch.nn.functional.interpolate(image, (14, 14), mode="bicubic", antialias=True)
    torch.testing.assert_close((larger * resized).sum((1, 2, 3)), (weight * image).sum((1, 2, 3)), atol=1e-2, rtol=1e-3)
    assert keys.fit("patch_embed.proj.weight", weight, torch.empty(9, 3, 14, 14)) is None
    assert keys.fit("head.weight", torch.ones(3, 2), torch.ones(4, 2)) is None


def test_names_of_other_modules_are_left_alone():
    names = ["decode_head.my_blocks.0.gamma1", "roi_head.mlp.fc1.weight", "backbone.layers.0.attn.qkv.weight"]
    assert list(keys.from_published(named(names))) == names


def test_the_way_back():
    assert list(keys.to_published_dense(named(["blocks.0.ls2.gamma", "reducer.selectors.0.norm.bias"]))) == [
        "blocks.0.gamma2"
    ]
    with pytest.raises(ValueError, match="no layer scale"):
        keys.to_published_selective(named(["blocks.0.gamma1"]))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "meta": {}}, lambda s: {"model": s}])
def test_unwrap(wrap):
    state = {"a.weight": torch.ones(1)}
    assert list(keys.unwrap(wrap(state))) == ["a.weight"]
    assert list(keys.unwrap(wrap({"module.a.weight": torch.ones(1)}))) == ["a.weight"]
    with pytest.raises(ValueError, match="holds no weights"):
        keys.unwrap(wrap({}))


def test_align_prefix():
    detector, backbone = ["backbone.pos_embed", "neck.weight"], ["pos_embed"]
    state, only = keys.align_prefix(named(backbone), detector)
    assert list(state) == ["backbone.pos_embed"] and only
    state, only = keys.align_prefix(named(detector), backbone)
    assert list(state) == ["pos_embed"]
    assert list(keys.align_prefix(named(detector), detector)[0]) == detector


def test_resize_pos_embed_keeps_class_rows_and_follows_bicubic():
    table = torch.randn(1, 1 + 14 * 14, 8)
    out = keys.resize_pos_embed(table, (20, 12), prefix=1)
    assert out.shape == (1, 241, 8) and torch.equal(out[:, :1], table[:, :1])
    grid = table[:, 1:].reshape(1, 14, 14, 8).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(grid, (20, 12), mode="bicubic", align_corners=False)
    torch.testing.assert_close(out[:, 1:], wanted.flatten(2).transpose(1, 2))
    assert keys.resize_pos_embed(table, (14, 14)) is table
    with pytest.raises(ValueError, match="not a square grid"):
        keys.resize_pos_embed(table, (7, 7), prefix=0)


def test_fit_pos_embed_drops_and_keeps_class_rows():
    model = torch.randn(1, 1 + 49, 4)
    distilled = torch.randn(1, 2 + 49, 4)
    torch.testing.assert_close(keys.fit_pos_embed(distilled, model), distilled[:, [0, *range(2, 51)]])
    bare = torch.randn(1, 49, 4)
    fitted = keys.fit_pos_embed(bare, model)
    assert torch.equal(fitted[:, 0], model[:, 0]) and torch.equal(fitted[:, 1:], bare)
    assert keys.fit_pos_embed(torch.randn(1, 50, 8), model) is None
