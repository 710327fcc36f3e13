"""ATS: tokens are sampled by significance, as many as an image needs ("Adaptive Token Sampling For Efficient Vision
Transformers", Fayyaz et al., ECCV 2022). It has no parameters.

Shapes: T packed tokens, B images, N positions, K sampling points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..attention import QKV
from ..components.class_attention import significance
from ..components.schedules import check_blocks, check_ratios
from ..reducer import Reducer, register
from ..tokens import TokenSet


@register
class ATS(Reducer):
    """Between attention and MLP of the listed blocks, the cumulative distribution of the significance over an image's
    positions is inverted at K evenly spaced points (2k - 1) / 2K. The tokens that are hit stay; where significance is
    peaked, points fall on the same token and fewer stay.

    Needs a class token; prefix tokens always stay. Tokens that leave are attended to once more in the block where they
    do, as published.

    Args:
        embed_dim, depth: of the host.
        blocks: where, ascending; default the first block after each quarter of the depth (3, 6, 9 of 12).
        keep_ratio: of the listed blocks, in (0, 1], or one for all: K is the grid's number of positions times the
            product of the ratios up to the block. It bounds the number of tokens from above.

    Raises:
        ValueError: an argument is out of its range.
    """

    needs_class_token = True
    fixed_shapes = False

    def __init__(
        self, embed_dim: int, depth: int, blocks: Sequence[int] | None = None, keep_ratio: Sequence[float] | float = 0.7
    ) -> None:
        super().__init__(embed_dim, depth)
        blocks = check_blocks(blocks, depth)
        ratios = check_ratios(keep_ratio, len(blocks))
        self.ratio_of = {block: math.prod(ratios[: k + 1]) for k, block in enumerate(blocks)}

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(min(self.ratio_of), self.depth))

    def after_attention(self, block: int, tokens: TokenSet, qkv: QKV, state: None) -> TokenSet:
        ratio = self.ratio_of.get(block, 1.0)
        if ratio == 1.0:
            return tokens
        points = math.ceil(ratio * tokens.grid[0] * tokens.grid[1])
        with torch.no_grad():
            # In double precision: sums over thousands of positions must still tell neighbours apart.
            score = tokens.to_map(significance(tokens, qkv, tokens.prefix)).double()
            rising = score.cumsum(1)
            asked = (2 * torch.arange(points, device=score.device) + 1) / (2 * points)
            # Where the sum first reaches a point there is a token: elsewhere it does not rise.
            hit = torch.searchsorted(rising, asked * rising[:, -1:]).clamp(max=score.shape[1] - 1)
            keep = torch.zeros_like(score, dtype=torch.bool).scatter_(1, hit, True)
            keep[:, : tokens.prefix] = True
        return tokens.select(tokens.from_map(keep))
