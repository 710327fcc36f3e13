"""Run one timm-style transformer block on a token set.

Shapes: T packed tokens, B images, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from timm.models.eva import EvaBlock
from torch import Tensor, nn

from .attention import QKV, self_attention
from .calling import by_image, call, is_called, packed, unwrapped
from .tokens import TokenSet

Between = Callable[[TokenSet, QKV], TokenSet]
# What timm's modules are is not declared in a way that type checkers understand.
TransformerBlock: TypeAlias = Any


def run_block(
    block: TransformerBlock,
    tokens: TokenSet,
    keys: Tensor | None = None,
    between: Between | None = None,
    prop_attn: bool = False,
    rope: Tensor | None = None,
    no_drop_path: bool = False,
    visible: Tensor | None = None,
) -> TokenSet:
    """Run a pre-norm transformer block on a token set.

    This is the only forward of a block in the project: dense models run it on full sets. Hooks on the block, its
    attention and its MLP are called with (B, n, C) where all images have n tokens, as in timm, and (T, C) elsewhere;
    the modules inside these get (T, C).

    Args:
        block: timm's ``Block`` (norm1, attn, ls1, drop_path1, norm2, mlp, ls2, drop_path2) or its ``EvaBlock``.
        keys: (T,) bool or soft mask, which tokens can be attended to; all tokens are queries. None for all.
        between: called with the set and q, k, v after the attention residual; what it returns enters the MLP.
        prop_attn: weight merged tokens by their size as keys.
        rope: (N, 2D) rotary position embeddings, or None.
        no_drop_path: switch stochastic depth off.
        visible: (B, N, Q) masked attention of the first Q positions, see ``attention.visible_tokens``, or None.
    """
    if not is_called(block):
        return _run(block, tokens, keys, between, prop_attn, rope, no_drop_path, visible)
    done = tokens

    def forward(x: Tensor) -> Tensor:
        nonlocal done
        done = _run(unwrapped(block), tokens.with_x(packed(x)), keys, between, prop_attn, rope, no_drop_path, visible)
        return by_image(done.x, done)

    out = call(block, forward, tokens.x, tokens)
    return done.with_x(out)


def _run(
    block: TransformerBlock,
    tokens: TokenSet,
    keys: Tensor | None,
    between: Between | None,
    prop_attn: bool,
    rope: Tensor | None,
    no_drop_path: bool,
    visible: Tensor | None,
) -> TokenSet:
    if not len(tokens.x):  # every parameter still needs a gradient: distributed training waits for all of them
        unused = sum(p.sum() for p in block.parameters()) if torch.is_grad_enabled() else 0
        return tokens.with_x(tokens.x + 0 * unused)
    scale1, scale2 = layer_scales(block)
    out, qkv = self_attention(block.attn, block.norm1(tokens.x), tokens, keys, prop_attn, rope, visible)
    tokens = tokens.with_x(tokens.x + drop_path(block.drop_path1, scale1(out), tokens, no_drop_path))
    if between is not None:
        tokens = between(tokens, qkv)
    x = block.norm2(tokens.x)
    out = scale2(packed(block.mlp(by_image(x, tokens))) if is_called(block.mlp) else block.mlp(x))
    return tokens.with_x(tokens.x + drop_path(block.drop_path2, out, tokens, no_drop_path))


def layer_scales(block: TransformerBlock) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return the functions that scale the two branches (T, C) of a ``Block`` or an ``EvaBlock``."""
    if not isinstance(block, EvaBlock):
        return block.ls1, block.ls2
    # Parameters, or None.
    first, second = ((lambda x: x) if gamma is None else gamma.mul for gamma in (block.gamma_1, block.gamma_2))
    return first, second


def drop_path(module: nn.Module, branch: Tensor, tokens: TokenSet, no_drop_path: bool = False) -> Tensor:
    """Apply stochastic depth to a branch (T, C) per *image*; timm's module would drop single packed tokens."""
    rate = getattr(module, "drop_prob", 0.0) if module.training and not no_drop_path else 0.0
    if not rate:
        return branch
    kept = branch.new_empty(tokens.batch).bernoulli_(1 - rate)
    if getattr(module, "scale_by_keep", True):
        kept = kept / (1 - rate)
    counts = torch.tensor(tokens.counts, device=branch.device)
    return branch * kept.repeat_interleave(counts, output_size=len(branch))[:, None]
