"""ATS: sample tokens by significance, a different number in each image.

"Adaptive Token Sampling For Efficient Vision Transformers", Fayyaz et al., ECCV 2022. The method has no parameters.

Shapes: T packed tokens, B images, N positions, K sampling points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..attention import QKV
from ..components.class_attention import significance
from ..components.schedules import check_blocks, check_ratios
from ..components.token_score import SCORES, RankingReducer, RankingState
from ..reducer import register
from ..tokens import TokenSet


@register
class ATS(RankingReducer):
    """Inverse transform sampling of tokens by significance, between attention and MLP of the listed blocks.

    The cumulative distribution of the significance over an image's positions is inverted at K evenly spaced points
    (2k - 1) / 2K. The sampled tokens are kept; where significance is peaked, several points select the same token and
    fewer tokens are kept.

    Needs a class token, unless the score is representation shift; prefix tokens are always kept. Dropped tokens still
    take part in the attention of the block that drops them, as published.

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.
        blocks: blocks that drop tokens, ascending; default the first block after each quarter of the depth (3, 6, 9 of
            12).
        keep_ratio: in (0, 1], one for all listed blocks or one for each. K is the number of grid positions times the
            product of the ratios up to the block, an upper bound on the number of kept tokens.
        score: "class_attention", times the norm of the value, or "representation_shift" instead, with which the tokens
            leave behind the block.

    Raises:
        SettingError: an argument is out of range.
    """

    needs_class_token = True
    fixed_shapes = False

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        blocks: Sequence[int] | None = None,
        keep_ratio: Sequence[float] | float = 0.7,
        score: str = SCORES[0],
    ) -> None:
        super().__init__(embed_dim, depth)
        blocks = check_blocks(blocks, depth)
        ratios = check_ratios(keep_ratio, len(blocks))
        self.ratio_of = {block: math.prod(ratios[: k + 1]) for k, block in enumerate(blocks)}
        self.use_score(score)

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(min(self.ratio_of), self.depth))

    def removes(self, block: int, tokens: TokenSet) -> bool:
        return self.ratio_of.get(block, 1.0) < 1.0

    def class_score(self, tokens: TokenSet, qkv: QKV) -> Tensor:
        return significance(tokens, qkv, tokens.prefix)

    def reduce(self, block: int, tokens: TokenSet, score: Tensor, state: RankingState) -> TokenSet:
        points = math.ceil(self.ratio_of[block] * tokens.grid[0] * tokens.grid[1])
        with torch.no_grad():
            # Double precision: sums over thousands of positions must still increase at every token.
            score = tokens.to_map(score).double()
            cumulative = score.cumsum(1)
            levels = (2 * torch.arange(points, device=score.device) + 1) / (2 * points)
            # The sum increases only at tokens of the set, so the position where it reaches a level holds one.
            sampled = torch.searchsorted(cumulative, levels * cumulative[:, -1:]).clamp(max=score.shape[1] - 1)
            keep = torch.zeros_like(score, dtype=torch.bool).scatter_(1, sampled, True)
            keep[:, : tokens.prefix] = True
        return tokens.select(tokens.from_map(keep))
