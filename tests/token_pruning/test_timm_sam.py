"""timm's SAM encoder under CubistMerge."""

import copy

import pytest
import timm
import torch
from host_models import TIMM, WINDOW
from timm.models.vision_transformer_sam import window_partition
from torch import nn

import token_pruning
from token_pruning.adapters.grid import relative_positions
from token_pruning.components.grid_merging import merge_grid

BUILD = TIMM["SAM (`samvit_base_patch16`)"]
SIDE = 7  # patches: windows that the edge cuts off


def build(**options):
    model = BUILD(img_size=16 * SIDE, neck_chans=8, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.15)
    return model


def images():
    return torch.randn(2, 3, 16 * SIDE, 16 * SIDE, generator=torch.Generator().manual_seed(1))


def cubist(**settings):
    return dict(type="CubistMerge", window_size=WINDOW, **settings)


@pytest.mark.parametrize("options", [{}, dict(qk_norm=True, init_values=0.5), dict(use_rel_pos=False)])
@torch.no_grad()
def test_keeping_all_is_timm_and_remove_restores_it(options):
    model, x = build(**options), images()
    wanted, (last, maps) = model(x), model.forward_intermediates(x, indices=[0, 2])
    for reducer in (None, cubist(r=0)):
        token_pruning.apply(model, reducer)
        torch.testing.assert_close(model(x), wanted, rtol=1e-5, atol=1e-5)
        found = model.forward_intermediates(x, indices=[0, 2])
        torch.testing.assert_close(found, (last, maps), rtol=1e-5, atol=1e-5)
        normed = model.forward_intermediates(x, indices=[0], norm=True, stop_early=True, intermediates_only=True)
        assert [m.shape for m in normed] == [(2, 8, SIDE, SIDE)]
    token_pruning.remove(model)
    assert torch.equal(model(x), wanted)


@torch.no_grad()
def test_the_smaller_grid_is_what_timm_computes_on_it():
    model, x = build(), images()
    first = model.norm_pre(model.patch_embed(x) + model.pos_embed)
    merged = merge_grid(first.flatten(1, 2), (SIDE, SIDE), (1, 1), window=WINDOW)
    small = copy.deepcopy(model)
    for block in small.blocks:
        block.window_size = block.window_size and WINDOW - 1
    out = small.blocks(merged.x.unflatten(1, merged.grid)).flatten(1, 2)
    wanted = out.gather(1, merged.place[..., None].expand(-1, -1, out.shape[-1])).unflatten(1, (SIDE, SIDE))
    token_pruning.apply(model, cubist(r=1, block=0))
    torch.testing.assert_close(model.forward_features(x), model.neck(wanted.permute(0, 3, 1, 2)), rtol=1e-4, atol=1e-4)
    # In the published windows, some of the grid is padding.
    assert window_partition(first, WINDOW)[1] == (8, 8)


def test_training_reaches_every_parameter_and_recomputes_blocks():
    grads = []
    for checkpointing in (False, True):
        model = token_pruning.apply(build().train(), cubist(r=1))
        model.set_grad_checkpointing(checkpointing)
        model(images()).square().sum().backward()
        grads.append([p.grad for p in model.blocks.parameters()])
        assert all(g is not None for g in grads[-1])
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)


def test_what_is_refused():
    model = build()
    with pytest.raises(ValueError, match=r"attends in windows .* the method for windows is CubistMerge"):
        token_pruning.apply(model, dict(type="ToMe", r=1))
    with pytest.raises(ValueError, match="set its window_size=4"):
        token_pruning.apply(model, dict(type="CubistMerge"))
    with pytest.raises(ValueError, match="the neck of SAM needs the whole map"):
        token_pruning.apply(model, cubist(), output="kept")
    with pytest.raises(TypeError, match="use_rope"):
        rotary = timm.create_model("samvit_base_patch16", img_size=112, embed_dim=24, depth=1, num_heads=3,
                                   use_rel_pos=False, use_rope=True, neck_chans=8)  # fmt: skip
        token_pruning.apply(rotary, cubist())
    model.blocks[1] = nn.Identity()
    with pytest.raises(TypeError, match="block 1 of VisionTransformerSAM is a Identity"):
        token_pruning.apply(model, cubist())
    token_pruning.apply(build(), cubist())
    with pytest.raises(ValueError, match="output_fmt is 'NLC'"):
        token_pruning.apply(build(), cubist()).forward_intermediates(images(), output_fmt="NLC")


def test_relative_positions_of_a_smaller_window():
    table = torch.arange(7.0)[:, None].expand(-1, 2)
    assert torch.equal(relative_positions(table, 4)[..., 0], torch.arange(4)[:, None] - torch.arange(4) + 3.0)
    smaller = relative_positions(table, 3)[..., 0]
    torch.testing.assert_close(smaller + smaller.T, torch.full((3, 3), 6.0))  # symmetric about the middle
    assert smaller[0].tolist() == pytest.approx([3, 1.6, 0.2])
