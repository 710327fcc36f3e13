"""Any plain vision transformer of timm, by name, as the trunk of a backbone."""

import pytest
import timm
import torch

from token_pruning import METHODS, PlainViT
from token_pruning.errors import SettingError
from token_pruning.timm_models import create_timm

NAMES = [
    "deit_small_patch16_224",
    "deit_small_distilled_patch16_224",
    "deit3_small_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_giant_patch14_dinov2",
    "vit_base_patch16_clip_quickgelu_224",
    "vit_base_patch16_siglip_224",
    "vit_medium_patch16_reg4_gap_256",
    "vit_small_patch16_dinov3",
    "vit_small_plus_patch16_dinov3",
    "vit_small_patch16_dinov3_qkvb",
    "eva02_tiny_patch14_224",
    "eva02_base_patch14_224",
]
SIZES = dict(patch_size=8, img_size=40, embed_dim=32, depth=3, num_heads=2)


def pair(name, **options):
    """Return timm's model and the trunk of that name with the same weights."""
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=0, dynamic_img_size=True, **SIZES).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    ours = PlainViT(model_name=name, **SIZES, **options).eval()
    found = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not [key for key in found.missing_keys if "reducer" not in key]
    assert {key.split(".")[0] for key in found.unexpected_keys} <= {"norm", "fc_norm", "attn_pool"}
    return theirs, ours


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_trunk_by_name_has_timms_numbers_at_any_size(name):
    theirs, ours = pair(name)
    for size in ((40, 40), (48, 80)):
        image = torch.randn(2, 3, *size)
        wanted = theirs.forward_intermediates(image, indices=[0, 2], output_fmt="NLC", intermediates_only=True)
        stack = ours.start(image)
        for tap, expected in zip((0, 2), wanted, strict=True):
            stack.run(1 if tap else 0, tap)
            torch.testing.assert_close(stack.map(), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_prefix_tokens_are_counted_and_can_be_left_out(name):
    theirs, ours = pair(name)
    bare = PlainViT(model_name=name, **SIZES, class_token=False).eval()
    assert ours.num_prefix_tokens == theirs.num_prefix_tokens and bare.num_prefix_tokens == 0
    assert not {"cls_token", "reg_token", "dist_token"} & {key for key, _ in bare.named_parameters()}
    bare.load_state_dict(ours.state_dict(), strict=False)
    stack = bare.start(torch.randn(1, 3, 48, 40))
    stack.run(0, 2)
    assert stack.finish().shape == (1, 30, 32)


@pytest.mark.parametrize("name", ["vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"])
@pytest.mark.parametrize("method", sorted(METHODS))
@torch.no_grad()
def test_every_method_runs_on_registers_and_rotary_positions(name, method):
    keep_all = dict(METHODS[method].keep_all)
    if METHODS[method].needs_class_scores:
        pytest.skip("needs the class scores of a segmentor")
    _, dense = pair(name)
    _, pruned = pair(name, reducer=dict(type=method, **keep_all))
    image = torch.randn(2, 3, 48, 80)
    maps = []
    for vit in (dense, pruned):
        stack = vit.start(image)
        stack.run(0, 2)
        maps.append(stack.finish())
    torch.testing.assert_close(*maps, atol=2e-5, rtol=1e-4)


def test_what_cannot_be_a_trunk_is_one_sentence():
    for name, match in (
        ("vit_smal_patch16_224", "timm has no model 'vit_smal_patch16_224': did you mean"),
        ("resnet18", "model_name 'resnet18' cannot be a backbone: ResNet"),
        ("vit_small_r26_s32_224", "embeds patches by HybridEmbed, and a backbone needs timm's PatchEmbed"),
        ("vit_small_patch16_rope_mixed_224", "different rotary position embeddings in each block"),
    ):
        with pytest.raises(ValueError, match=match):
            PlainViT(model_name=name)
    name = "vit_small_patch14_dinov2"
    with pytest.raises(ValueError, match="qkv_bias and layer_scale follow from model_name"):
        PlainViT(model_name=name, layer_scale=True)
    with pytest.raises(ValueError, match="model_args are arguments of a timm model: set model_name"):
        PlainViT(model_args=dict(init_values=1.0))
    with pytest.raises(ValueError, match="windowed blocks take no prefix tokens: set class_token=False"):
        PlainViT(model_name=name, **SIZES, window_attn=[True, True, False])
    with pytest.raises(ValueError, match="windowed blocks take no prefix tokens: set class_token=False"):
        PlainViT(**SIZES, class_token=True, window_attn=[True, True, False])
    with pytest.raises(ValueError, match="has no class token: leave class_token out"):
        PlainViT(model_name="vit_base_patch16_siglip_224", **SIZES, class_token=True)
    with pytest.raises(ValueError, match="cannot be a backbone: .*unexpected keyword argument 'nonsense'"):
        PlainViT(model_name=name, model_args=dict(nonsense=1))


@torch.no_grad()
def test_windows_of_a_trunk_by_name():
    torch.manual_seed(0)
    options = dict(window_attn=[True, True, False], window_size=3)
    plain = PlainViT(**SIZES, **options).eval()
    named = PlainViT(model_name="deit_small_patch16_224", class_token=False, **SIZES, **options).eval()
    named.load_state_dict(plain.state_dict())
    image, maps = torch.randn(1, 3, 40, 40), []
    for vit in (plain, named):
        stack = vit.start(image)
        stack.run(0, 2)
        maps.append(stack.finish())
    torch.testing.assert_close(*maps)


def test_a_name_or_a_width_that_is_none_is_one_sentence():
    with pytest.raises(SettingError, match="model_name is nan: give one that"):
        create_timm(float("nan"))
    with pytest.raises(SettingError, match="embed_dim is 0: give a whole number above 0"):
        create_timm("vit_tiny_patch16_224", embed_dim=0)


@pytest.mark.parametrize("size", [(3,), (224, 0), "224", [224, 224, 3]])
def test_a_size_that_is_none_is_one_sentence(size):
    with pytest.raises(SettingError, match="give a side in pixels, or .height, width."):
        create_timm("vit_tiny_patch16_224", img_size=size)
