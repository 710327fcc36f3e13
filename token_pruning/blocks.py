"""Run one timm-style transformer block on a token set.

Shapes: T packed tokens, B images, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from timm.models.eva import EvaBlock
from torch import Tensor, nn

from .attention import QKV, self_attention
from .tokens import TokenSet

Between = Callable[[TokenSet, QKV], TokenSet]


def run_block(
    block: nn.Module,
    tokens: TokenSet,
    keys: Tensor | None = None,
    between: Between | None = None,
    prop_attn: bool = False,
    rope: Tensor | None = None,
    no_drop_path: bool = False,
) -> TokenSet:
    """A pre-norm block (timm's ``Block``: norm1, attn, ls1, drop_path1, norm2, mlp, ls2, drop_path2; or its
    ``EvaBlock``) on a token set.

    This is the only forward of a block in the project: dense models run it on full sets.

    Args:
        keys: (T,) bool or soft mask, which tokens can be attended to; all tokens query. None for all.
        between: called with the set and q, k, v after the attention residual; what it returns enters the MLP.
        proportional: merged tokens draw attention in proportion to their size.
        rope: (N, 2D) rotary positions, or None.
        steady: no stochastic depth.
    """
    if not len(tokens.x):  # every parameter gets its gradient all the same: distributed training waits for all
        unused = sum(p.sum() for p in block.parameters()) if torch.is_grad_enabled() else 0
        return tokens.with_x(tokens.x + 0 * unused)
    scale1, scale2 = layer_scales(block)
    out, qkv = self_attention(block.attn, block.norm1(tokens.x), tokens, keys, prop_attn, rope)
    tokens = tokens.with_x(tokens.x + drop_path(block.drop_path1, scale1(out), tokens, no_drop_path))
    if between is not None:
        tokens = between(tokens, qkv)
    out = scale2(block.mlp(block.norm2(tokens.x)))
    return tokens.with_x(tokens.x + drop_path(block.drop_path2, out, tokens, no_drop_path))


def layer_scales(block: nn.Module) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """What the two branches (T, C) are scaled by: modules of a ``Block``, parameters or None of an ``EvaBlock``."""
    if not isinstance(block, EvaBlock):
        return block.ls1, block.ls2
    return tuple((lambda x: x) if gamma is None else gamma.mul for gamma in (block.gamma_1, block.gamma_2))


def drop_path(module: nn.Module, branch: Tensor, tokens: TokenSet, no_drop_path: bool = False) -> Tensor:
    """Stochastic depth of a branch (T, C) by *image*, none if ``no_drop_path``; timm's module would drop single packed
    tokens."""
    rate = getattr(module, "drop_prob", 0.0) if module.training and not no_drop_path else 0.0
    if not rate:
        return branch
    kept = branch.new_empty(tokens.batch).bernoulli_(1 - rate)
    if module.scale_by_keep:
        kept = kept / (1 - rate)
    counts = torch.tensor(tokens.counts, device=branch.device)
    return branch * kept.repeat_interleave(counts, output_size=len(branch))[:, None]
