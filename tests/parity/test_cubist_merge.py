"""CubistMerge against the recorded numbers of the released code: groups and values exactly, in stacks and with RoPE."""

from functools import partial

import pytest
import torch
from fixture_files import close, where
from timm.models.eva import Eva, checkpoint_filter_fn
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import token_pruning
from token_pruning import StackForward, TokenSet
from token_pruning.attention import rope_with_prefix
from token_pruning.components.grid_merging import RULES, match_lines, merge_grid, merge_lines


def records(*kinds):
    return where(lambda content: content.get("schema") == "cubist-fixture-1" and content["kind"] in kinds)


def reducer_of(record, **kwargs):
    return dict(type="CubistMerge", r=(record["r_h"], record["r_w"]), block=record.get("before_block", 0), **kwargs)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("record", records("unit", "stack", "dinov3"))
def test_merged_grids(record, rule):
    wanted, grid = record[rule], tuple(record["grid"])
    x = record["x"].float() if record["kind"] == "unit" else record["tokens_before"]
    merged = merge_grid(x, grid, (record["r_h"], record["r_w"]), rule)
    assert merged.grid == tuple(wanted["grid"])
    assert torch.equal(merged.place, wanted["group_of"].long()) and torch.equal(merged.x, wanted["merged"])
    first, lines = wanted["steps"][0], x.unflatten(1, grid)
    lines = (lines if first["axis"] == "w" else lines.transpose(1, 2)).flatten(0, 1)
    match = match_lines(lines, record["r_w"] if first["axis"] == "w" else record["r_h"])
    assert match.sources.tolist() == torch.as_tensor(first["sources"]).tolist()
    assert match.targets.tolist() == torch.as_tensor(first["targets"]).tolist()


@pytest.mark.parametrize("record", records("unit"))
def test_restored_maps(record):
    """A merged token is copied to its places, which undoes both steps."""
    x, grid = record["x"].float(), tuple(record["grid"])
    reducer = token_pruning.build_reducer(reducer_of(record), x.shape[2], 2)
    tokens = reducer.enter_block(0, TokenSet.full(x, grid), None)
    assert torch.equal(tokens.with_x(record["undo_input"].flatten(0, 1)).restore(), record["undo_output"])


@pytest.mark.parametrize("record", records("stack"))
@torch.no_grad()
def test_stack(record):
    model = VisionTransformer(**record["model"]).eval()
    model.load_state_dict({name: value.float() for name, value in record["state_dict"].items()})
    images = record["images"].float()
    close(model(images), record["logits_dense"])
    token_pruning.apply(model, reducer_of(record), output="kept")
    close(model(images), record["logits"])
    model.output = "map"
    close(model.forward_features(images), record["undone"])
    stack = StackForward(
        model.blocks, model.reducer, model._pos_embed(model.patch_embed(images)), tuple(record["grid"]), 1
    )
    stack.run(0, record["before_block"] - 1)
    close(stack.map(), record["tokens_before"])
    stack.run(record["before_block"], len(model.blocks) - 1)
    close(stack.tokens.by_image(stack.tokens.x), record["tokens_out"])


@pytest.mark.parametrize("record", records("dinov3"))
@torch.no_grad()
def test_rotary_positions_are_those_of_the_smaller_grid(record):
    config = dict(record["model"])
    model = Eva(
        img_size=config["img_size"],
        patch_size=config["patch_size"],
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        mlp_ratio=config["mlp_ratio"],
        num_classes=0,
        global_pool="",
        num_reg_tokens=config["num_reg_tokens"],
        norm_layer=partial(nn.LayerNorm, eps=config["norm_eps"]),
        rope_type="dinov3",
        rope_temperature=config["rope_base"],
        use_rot_pos_emb=True,
        use_abs_pos_emb=False,
        rope_rotate_half=True,
        init_values=1.0,
        use_fc_norm=False,
        qkv_bias=True,
    ).eval()
    state = {name: value.float() for name, value in record["state_dict"].items()}
    model.load_state_dict(checkpoint_filter_fn(state, model))
    images = record["images"].float()
    token_pruning.apply(model, reducer_of(record))
    out = model.forward_features(images)
    close(out[:, 0], record["x_norm_clstoken"])
    close(out[:, record["prefix"] :], record["x_norm_patchtokens"])
    grid, prefix = tuple(record["grid"]), record["prefix"]
    stack = StackForward(
        model.blocks,
        model.reducer,
        model._pos_embed(model.patch_embed(images))[0],
        grid,
        prefix,
        rope=rope_with_prefix(model.rope.get_embed(grid), prefix),
        rope_of=model.rope.get_embed,
    )
    for block in range(len(model.blocks)):
        stack.run(block, block)
        if block in record["taps"]:
            found = stack.map(with_prefix=True)
            if block == record["before_block"] - 1:
                close(found[:, prefix:], record["tokens_before"])
                # The released code merges the columns in the memory of this tap.
                lines = found[:, prefix:].reshape(-1, grid[1], found.shape[2])
                merged = merge_lines(lines, match_lines(lines, record["r_w"]), "released")
                found = torch.cat([found[:, :prefix], merged.view(len(found), -1, found.shape[2])], dim=1)
            close(found, record["taps"][block])
    close(stack.finish(with_prefix=True), record["x_prenorm"])
