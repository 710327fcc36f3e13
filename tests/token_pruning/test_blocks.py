"""Blocks on token sets equal timm's own forward, image by image, with windows and stochastic depth."""

import pytest
import torch
from timm.models.vision_transformer import Block

from token_pruning import TokenSet, run_block
from token_pruning.attention import WindowAttention


def a_block(dim=24, heads=3, **kwargs):
    torch.manual_seed(0)
    return Block(dim, heads, qkv_bias=True, **kwargs).eval()


@pytest.mark.parametrize(
    "kwargs",
    [{}, dict(init_values=0.3), dict(qk_norm=True), dict(scale_attn_norm=True)],
    ids=["plain", "layer scale", "q/k norm", "attention norm"],
)
@torch.no_grad()
def test_full_set_equals_timm(kwargs):
    block, x = a_block(**kwargs), torch.randn(2, 20, 24)
    torch.testing.assert_close(run_block(block, TokenSet.full(x, (4, 5))).restore(), block(x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_uneven_subset_equals_timm_on_each_image():
    block, x = a_block(), torch.randn(3, 20, 24)
    keep = torch.zeros(3, 20, dtype=torch.bool)
    keep[0, 3:9], keep[2, ::2] = True, True
    out = run_block(block, TokenSet.full(x, (4, 5)).select(keep.flatten())).restore()
    assert torch.equal(out[~keep], x[~keep])
    for b in (0, 2):
        torch.testing.assert_close(out[b][keep[b]], block(x[b][keep[b]][None])[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_empty_set_skips_the_block():
    tokens = TokenSet.full(torch.randn(2, 20, 24), (4, 5)).select(torch.zeros(40, dtype=torch.bool))
    assert torch.equal(run_block(a_block(), tokens).restore(), tokens.dense)


@torch.no_grad()
def test_masked_keys_equal_the_packed_subset():
    block, x = a_block(), torch.randn(2, 20, 24)
    keep = torch.rand(40) < 0.5
    tokens = TokenSet.full(x, (4, 5))
    masked = run_block(block, tokens, keep)
    torch.testing.assert_close(masked.x[keep], run_block(block, tokens.select(keep)).x, atol=1e-5, rtol=1e-5)


def test_outputs_and_gradients_without_any_key_are_finite():
    block, x = a_block(), torch.randn(1, 20, 24, requires_grad=True)
    out = run_block(block, TokenSet.full(x, (4, 5)), torch.zeros(20, dtype=torch.bool)).x
    out.sum().backward()
    assert out.isfinite().all() and x.grad.isfinite().all()


def test_windowed_blocks_reject_subsets():
    block = a_block(attn_layer=WindowAttention)
    tokens = TokenSet.full(torch.randn(1, 20, 24), (4, 5))
    with pytest.raises(ValueError, match="window-attention block needs all tokens"):
        run_block(block, tokens.select(torch.arange(20) < 9))


def test_stochastic_depth_drops_whole_images():
    block = a_block(drop_path=0.5).train()
    x = torch.randn(64, 20, 24)
    keep = torch.rand(64 * 20) < 0.7
    tokens = TokenSet.full(x, (4, 5)).select(keep)
    moved = (run_block(block, tokens).x - tokens.x).abs().amax(1) > 0
    per_image = [part.unique().numel() for part in tokens.counts.split(moved) if len(part)]
    assert set(per_image) == {1} and 0 < moved.float().mean() < 1
