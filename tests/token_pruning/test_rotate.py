"""Rotary positions: the rotation without gradients equals timm's, whichever channels form a pair."""

import pytest
import torch
from timm.layers import apply_rot_embed_cat

from token_pruning.attention import QKV, rotate
from token_pruning.tokens import TokenSet

GRID, PREFIX, HEADS, DIM = (3, 4), 1, 2, 8


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_are_rotated_by_their_positions_as_timm_does(half, grad, dtype):
    positions = PREFIX + GRID[0] * GRID[1]
    rope = torch.randn(positions, 2 * DIM)
    full = TokenSet.full(torch.randn(2, positions, HEADS * DIM), GRID, PREFIX)
    some = full.select(torch.rand(2 * positions) > 0.4)
    for tokens in (full, some):
        place = torch.arange(2 * positions) if tokens.index is None else tokens.index
        qkv = torch.randn(len(tokens.x), 3, HEADS, DIM, dtype=dtype)  # q, k and v are views, as of a fused projection
        before = qkv.clone()
        with torch.set_grad_enabled(grad):
            q, k, v, _ = rotate(QKV(*qkv.unbind(1)), tokens, rope, half)
        wanted = [apply_rot_embed_cat(t, rope[place % positions][:, None], half) for t in before[:, :2].unbind(1)]
        torch.testing.assert_close((q, k), tuple(wanted))
        assert q.dtype == wanted[0].dtype and torch.equal(v, before[:, 2]) and torch.equal(qkv, before)
