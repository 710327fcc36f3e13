"""Run one pre-norm transformer block on a token set.

Shapes: T packed tokens, B images, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .adapters import BlockAdapter, adapt
from .attention import QKV, self_attention
from .calling import by_image, call, is_called, packed
from .tokens import TokenSet

Between = Callable[[TokenSet, QKV], TokenSet]
AfterMLP = Callable[[TokenSet, Tensor], None]


def run_block(
    block: nn.Module | BlockAdapter,
    tokens: TokenSet,
    keys: Tensor | None = None,
    between: Between | None = None,
    prop_attn: bool = False,
    rope: Tensor | None = None,
    no_drop_path: bool = False,
    after_mlp: AfterMLP | None = None,
    visible: Tensor | None = None,
) -> TokenSet:
    """Run a pre-norm transformer block on a token set.

    This is the only forward of a block in the project: dense models run it on full sets. Hooks on the block, its
    attention and its MLP are called with (B, n, C) where all images have n tokens, as in timm, and (T, C) elsewhere;
    the modules inside these get (T, C).

    Args:
        block: timm's ``Block`` or ``EvaBlock``, or the adapter of a block of another kind.
        keys: (T,) bool or soft mask, which tokens can be attended to; all tokens are queries. None for all.
        between: called with the set and q, k, v after the attention residual; what it returns enters the MLP.
        prop_attn: weight merged tokens by their size as keys.
        rope: (N, 2D) rotary position embeddings, or None.
        no_drop_path: switch stochastic depth off.
        after_mlp: called with the set that entered the MLP and its output (T, C), before layer scale.
        visible: (B, N, Q) masked attention of the first Q positions, see ``attention.visible_tokens``, or None.
    """
    parts = adapt(block)
    if parts.hooked is None or not is_called(parts.hooked):
        return _run(parts, tokens, keys, between, prop_attn, rope, no_drop_path, after_mlp, visible)
    done = tokens

    def forward(x: Tensor) -> Tensor:
        nonlocal done
        given = tokens.with_x(packed(x))
        done = _run(parts, given, keys, between, prop_attn, rope, no_drop_path, after_mlp, visible)
        return by_image(done.x, done)

    out = call(parts.hooked, forward, tokens.x, tokens)
    return done.with_x(out)


def _run(
    block: BlockAdapter,
    tokens: TokenSet,
    keys: Tensor | None,
    between: Between | None,
    prop_attn: bool,
    rope: Tensor | None,
    no_drop_path: bool,
    after_mlp: AfterMLP | None,
    visible: Tensor | None,
) -> TokenSet:
    if not tokens.x.shape[0]:  # every parameter still needs a gradient: distributed training waits for all of them
        unused = sum(p.sum() for p in block.parameters()) if torch.is_grad_enabled() else 0
        return tokens.with_x(tokens.x + 0 * unused)
    out, qkv = self_attention(block, block.norm1(tokens.x), tokens, keys, prop_attn, rope, visible)
    tokens = tokens.with_x(tokens.x + drop_path(block.drop_path1, block.scale1(out), tokens, no_drop_path))
    if between is not None:
        tokens = between(tokens, qkv)
    x = block.norm2(tokens.x)
    branch = packed(block.mlp(by_image(x, tokens))) if is_called(block.mlp) else block.mlp(x)
    if after_mlp is not None:
        after_mlp(tokens, branch)
    return tokens.with_x(tokens.x + drop_path(block.drop_path2, block.scale2(branch), tokens, no_drop_path))


def drop_path(module: Any, branch: Tensor, tokens: TokenSet, no_drop_path: bool = False) -> Tensor:
    """Apply stochastic depth to a branch (T, C) per *image*; timm's module would drop single packed tokens."""
    rate = 0.0 if no_drop_path else getattr(module, "drop_prob", 0.0)
    if not rate or not module.training:
        return branch
    kept = branch.new_empty(tokens.batch).bernoulli_(1 - rate)
    if getattr(module, "scale_by_keep", True):
        kept = kept / (1 - rate)
    assert tokens.counts is not None  # training knows them
    return branch * tokens.counts.per_token(kept)[:, None]
