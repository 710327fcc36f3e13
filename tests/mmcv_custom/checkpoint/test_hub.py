"""Published ViTs in the names of their own projects load as timm converts them, or are refused in one sentence.

The files are made from tiny timm models with random weights; timm's own filters say what they mean.
"""

import re

import pytest
import timm
import torch
from timm.models import beit, deit, eva, vision_transformer, vision_transformer_sam

from mmcv_custom import CheckpointError, PlainViTBackbone, load_into

SIZES = dict(embed_dim=24, depth=2, num_heads=3, num_classes=0)
PLAIN = dict(img_size=32, embed_dim=24, depth=2, num_heads=3)


def a_vit(name, seed=0, **options):
    torch.manual_seed(seed)
    sizes = dict(SIZES, img_size=2 * int(re.search(r"patch(\d+)", name).group(1)))
    model = timm.create_model(name, **{**sizes, **options}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def renamed(state, *rules, before="", **others):
    out = {}
    for name, value in state.items():
        for old, new in rules:
            name = re.sub(old, new, name)
        out[before + name] = value
    return out | others


def like_dinov2(state):
    row, state = torch.randn(1, 1, 24), dict(state)
    if "reg_token" in state:
        state |= {
            "register_tokens": state.pop("reg_token"),
            "cls_token": state["cls_token"] - row,
            "pos_embed": torch.cat([row, state["pos_embed"]], 1),
        }
    return renamed(state, mask_token=torch.randn(1, 24))


def like_swiglu(state):
    return like_dinov2(renamed(state, (r"mlp\.fc1", "mlp.w12"), (r"mlp\.fc2", "mlp.w3")))


def like_dinov3(state):
    names = renamed(state, ("reg_token", "storage_tokens"), (r"gamma_(\d)", r"ls\1.gamma"))
    rope = {"rope_embed.periods": torch.randn(2), "local_cls_norm.weight": torch.randn(24)}
    for name in [k for k in names if k.endswith("q_bias")]:
        q, v, joint = names.pop(name), names.pop(name.replace("q_bias", "v_bias")), name.replace("q_bias", "qkv.bias")
        rope |= {joint: torch.cat([q, torch.randn(24), v]), joint + "_mask": torch.ones(72)}
    return renamed(names, **rope, mask_token=torch.randn(1, 24))


def like_clip(state):
    rules = [("^patch_embed.proj", "conv1"), ("^pos_embed", "positional_embedding"), ("^norm_pre", "ln_pre")]
    rules += [
        ("^norm", "ln_post"),
        ("^blocks", "transformer.resblocks"),
        ("norm", "ln_"),
        ("cls_token", "class_embedding"),
    ]
    rules += [
        (r"qkv\.", "in_proj_"),
        ("attn.proj", "attn.out_proj"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
    ]
    out = renamed(state, *rules, before="visual.")
    flat = {"visual.class_embedding": out["visual.class_embedding"][0, 0], "visual.proj": torch.randn(24, 8)}
    flat["visual.positional_embedding"] = out["visual.positional_embedding"][0]
    return out | flat | {"transformer.resblocks.0.ln_1.weight": torch.ones(9), "logit_scale": torch.ones([])}


def like_siglip(state):
    return renamed(state, before="visual.trunk.") | {"text.ln_final.weight": torch.ones(9), "logit_bias": torch.ones(1)}


def like_eva02(state):
    rules = [
        (r"mlp\.fc1_g", "mlp.w1"),
        (r"mlp\.fc1_x", "mlp.w2"),
        (r"mlp\.fc2", "mlp.w3"),
        (r"mlp\.norm", "mlp.ffn_ln"),
    ]
    rules += [(r"([qv])_proj\.bias", r"\1_bias"), ("^fc_norm", "norm")]
    rope = {"rope.freqs_cos": torch.ones(4, 8), "blocks.0.attn.rope.freqs_sin": torch.ones(4, 8)}
    return renamed(state, *rules, mask_token=torch.ones(1, 1, 24), **rope)


def like_deit3(state):
    return renamed(state, (r"ls(\d)\.gamma", r"gamma_\1"))


HUBS = {
    "DINOv2": ("vit_small_patch14_dinov2", like_dinov2, vision_transformer),
    "DINOv2 with registers": ("vit_small_patch14_reg4_dinov2", like_dinov2, vision_transformer),
    "DINOv2 giant": ("vit_giant_patch14_reg4_dinov2", like_swiglu, vision_transformer),
    "DINOv3": ("vit_small_patch16_dinov3", like_dinov3, eva),
    "DINOv3 with biases": ("vit_small_patch16_dinov3_qkvb", like_dinov3, eva),
    "CLIP": ("vit_base_patch16_clip_224", like_clip, vision_transformer),
    "SigLIP": ("vit_base_patch16_siglip_224", like_siglip, vision_transformer),
    "EVA-02": ("eva02_base_patch14_224", like_eva02, eva),
    "EVA": ("eva_giant_patch14_224", dict, eva),
    "EVA-CLIP": ("eva02_base_patch16_clip_224", lambda s: renamed(s, before="visual."), eva),
    "DeiT-III": ("deit3_small_patch16_224", like_deit3, deit),
}


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "as backbone"])
@pytest.mark.parametrize("name", HUBS)
def test_a_hubs_file_gives_timms_features(name, wrapped):
    model, publish, module = HUBS[name]
    source, timms, ours = (a_vit(model, seed) for seed in range(3))
    file = publish(source.state_dict())
    options = dict(adapt_layer_scale=True) if module is deit else {}
    filter_fn = vision_transformer.checkpoint_filter_fn if module is deit else module.checkpoint_filter_fn
    timms.load_state_dict(filter_fn(dict(file), timms, **options), strict=False)
    report = load_into(torch.nn.ModuleDict(dict(backbone=ours)) if wrapped else ours, file, logger="silent")
    assert not report.missing and not report.mismatched
    image = torch.randn(1, 3, *source.patch_embed.img_size)
    with torch.no_grad():
        features = source.forward_features(image)
        torch.testing.assert_close(timms.forward_features(image), features, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ours.forward_features(image), features, atol=1e-4, rtol=1e-4)


def a_beit(**options):
    return a_vit("beit_base_patch16_224", **options)


@pytest.mark.parametrize("joint", [False, True])
def test_beit_gives_timms_features_without_relative_positions(joint):
    source = a_beit(use_abs_pos_emb=True, use_rel_pos_bias=False, init_values=0.1)
    file = {"model": renamed(source.state_dict(), before="module.") if joint else source.state_dict()}
    file["model"] |= {("module." if joint else "") + "blocks.0.attn.relative_position_index": torch.ones(5, 5).long()}
    timms = a_beit(seed=1, use_abs_pos_emb=True, use_rel_pos_bias=False, init_values=0.1)
    bare = {k.removeprefix("module."): v for k, v in file["model"].items()}
    timms.load_state_dict(beit.checkpoint_filter_fn(bare, timms))
    ours = PlainViTBackbone(**PLAIN, class_token=True, layer_scale=True).eval()
    report = load_into(ours, file, logger="silent")
    assert not report.missing and not report.mismatched
    assert_same_blocks(ours, timms)


def test_sam_gives_timms_features_without_relative_positions():
    options = dict(use_rel_pos=False, window_size=0, global_attn_indexes=())
    source, timms = a_vit("samvit_base_patch16", **options), a_vit("samvit_base_patch16", 1, **options)
    file = renamed(source.state_dict(), (r"mlp\.fc", "mlp.lin"), before="image_encoder.")
    file |= {"prompt_encoder.no_mask_embed.weight": torch.ones(1, 24)}
    timms.load_state_dict(vision_transformer_sam.checkpoint_filter_fn(file, timms))
    ours = PlainViTBackbone(**PLAIN).eval()
    load_into(ours, file, logger="silent")
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        theirs = timms.blocks(timms.patch_embed(image) + timms.pos_embed)
        torch.testing.assert_close(last_map(ours, image), theirs.flatten(1, 2), atol=1e-4, rtol=1e-4)


def last_map(vit, image):
    stack = vit.start(image)
    stack.run(0, 1)
    return stack.finish()


def assert_same_blocks(ours, timms):
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        x = timms.patch_embed(image)
        x = torch.cat([timms.cls_token, x], 1) + timms.pos_embed
        for block in timms.blocks:
            x = block(x)
        torch.testing.assert_close(last_map(ours, image), x[:, 1:], atol=1e-4, rtol=1e-4)


def test_a_class_token_without_a_row_enters_the_blocks_as_in_the_file():
    """DeiT-III's token has no position; the backbone's table has a row for it, which must add nothing."""
    source = a_vit("deit3_small_patch16_224")
    ours = PlainViTBackbone(**PLAIN, class_token=True, layer_scale=True).eval()
    load_into(ours, like_deit3(source.state_dict()), logger="silent")
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        x = source.blocks(source._pos_embed(source.patch_embed(image)))
        torch.testing.assert_close(last_map(ours, image), x[:, 1:], atol=1e-4, rtol=1e-4)


def test_a_file_without_layer_scale_keeps_its_function():
    source, ours = a_vit("deit_tiny_patch16_224"), a_vit("deit_tiny_patch16_224", 1, init_values=1e-5)
    assert not load_into(ours, source.state_dict(), logger="silent").missing
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours.forward_features(image), source.forward_features(image))


def plain(**options):
    return PlainViTBackbone(**dict(PLAIN, **options))


REFUSED = {
    "layer scale": ("vit_small_patch14_dinov2", like_dinov2, dict(patch_size=14), "layer_scale=True"),
    "layer scale of DeiT-III": ("deit3_small_patch16_224", like_deit3, {}, "layer_scale=True"),
    "registers": ("vit_small_patch14_reg4_dinov2", like_dinov2, dict(patch_size=14, layer_scale=True), "registers"),
    "rotary positions": ("vit_small_patch16_dinov3", like_dinov3, dict(layer_scale=True), "registers|rotary positions"),
    "a norm before the blocks": ("vit_base_patch16_clip_224", like_clip, {}, "a norm before the blocks.*model_name"),
    "relative positions of SAM": ("samvit_base_patch16", dict, {}, "relative positions.*take weights without"),
    "relative positions of BEiT": ("beit_base_patch16_224", dict, dict(layer_scale=True), "relative positions"),
    "another MLP": ("eva02_base_patch16_clip_224", dict, {}, "rotary|q_proj|is of another model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_weights_that_matter_and_have_no_place_are_refused(name):
    model, publish, options, sentence = REFUSED[name]
    ours = plain(**options)
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    with pytest.raises(CheckpointError, match=sentence):
        load_into(ours, publish(a_vit(model).state_dict()), source="vit.pth")
    assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        (dict(init_values=0.5), "init_values=1.0"),
        (dict(reg_tokens=3), "reg_tokens=3"),
        (dict(pre_norm=True), "pre_norm=True"),
        (dict(qk_norm=True), "q_norm"),
        (dict(reg_tokens=3, no_embed_class=True, class_token=False, global_pool="avg"), "reg_tokens=3"),
        (dict(mlp_ratio=2), r"fc1.weight is \[48, 24\] in the file and \[96, 24\] in the model"),
    ],
)
def test_timms_option_is_named(options, cure):
    with pytest.raises(CheckpointError, match=cure):
        load_into(a_vit("deit_tiny_patch16_224"), a_vit("deit_tiny_patch16_224", **options).state_dict())


def test_what_changes_nothing_is_left_out():
    """Layer scale of ones, tables of zeros, and index tables."""
    state = a_vit("deit_tiny_patch16_224").state_dict()
    extra = {"blocks.0.ls1.gamma": torch.ones(24), "blocks.1.attn.rel_pos_h": torch.zeros(3, 8)}
    report = load_into(plain(), state | extra, logger="silent")
    assert not report.missing and {*extra} <= {*report.unexpected}


def test_a_position_table_that_is_no_known_grid_is_refused():
    state = a_vit("deit_tiny_patch16_224", img_size=(32, 48)).state_dict()
    with pytest.raises(CheckpointError, match=r"pos_embed is \[1, 7, 24\] in the file.*set the sizes \(img_size"):
        load_into(plain(), state)
