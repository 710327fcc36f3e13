"""EViT: drop the tokens with the lowest class attention (or another score), or fuse them into one.

"Not All Patches are What You Need: Expediting Vision Transformers via Token Reorganizations", Liang et al., ICLR 2022.

Shapes: T packed tokens, B images, n tokens of each image, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..attention import QKV
from ..components.class_attention import class_attention
from ..components.ranking import equal_count, rows_of, sort_rows
from ..components.schedules import check_blocks, check_ratios
from ..components.token_score import SCORES, RankingReducer, RankingState
from ..counts import Counts
from ..reducer import register
from ..rounding import ceiled
from ..tokens import TokenSet


@register
class EViT(RankingReducer):
    """Pruning by class attention, averaged over heads, between attention and MLP of the listed blocks.

    All images of a batch keep equally many tokens. Needs a class token, unless the score is representation shift.

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.
        blocks: blocks that drop tokens, ascending; default the first block after each quarter of the depth (3, 6, 9 of
            12).
        keep_ratio: in (0, 1], relative to the remaining tokens, one for all listed blocks or one per block.
        fuse: the dropped tokens are fused into one, their sum weighted by class attention, which later blocks process
            like any other; the dense map has its value at all their positions. False leaves their values unchanged.
        score: "class_attention", or "representation_shift" instead, with which the tokens leave behind the block.

    Raises:
        SettingError: an argument is out of range.
    """

    needs_class_token = True

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        blocks: Sequence[int] | None = None,
        keep_ratio: Sequence[float] | float = 0.7,
        fuse: bool = True,
        score: str = SCORES[0],
    ) -> None:
        super().__init__(embed_dim, depth)
        blocks = check_blocks(blocks, depth)
        self.ratio_of = dict(zip(blocks, check_ratios(keep_ratio, len(blocks)), strict=True))
        self.fuse = fuse
        self.use_score(score)

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(min(self.ratio_of), self.depth))

    def _kept(self, block: int, tokens: TokenSet) -> tuple[int, int]:
        """Return how many grid tokens of each image ``block`` keeps, of how many."""
        remaining = equal_count(tokens) - tokens.prefix
        return ceiled(self.ratio_of.get(block, 1.0) * remaining), remaining

    def removes(self, block: int, tokens: TokenSet) -> bool:
        keep, remaining = self._kept(block, tokens)
        return keep < remaining

    def class_score(self, tokens: TokenSet, qkv: QKV) -> Tensor:
        return class_attention(tokens, qkv).mean(1)

    def reduce(self, block: int, tokens: TokenSet, score: Tensor, state: RankingState) -> TokenSet:
        prefix, keep = tokens.prefix, self._kept(block, tokens)[0]
        score = tokens.by_image(score)
        order = score[:, prefix:].argsort(dim=1, descending=True, stable=True) + prefix
        first = torch.arange(prefix, device=order.device).expand(tokens.batch, -1)
        kept, dropped = torch.cat([first, order[:, :keep]], dim=1), order[:, keep:]
        if not self.fuse:
            return tokens.take(rows_of(sort_rows(kept, tokens), tokens), Counts.equal(prefix + keep, tokens.batch))
        # The fused token takes the position of the dropped token with the highest score.
        places = torch.cat([kept, dropped[:, :1]], dim=1)
        x = tokens.by_image(tokens.x)
        weight = score.gather(1, dropped)[..., None].to(x.dtype)
        values = x.gather(1, places[..., None].expand(-1, -1, x.shape[2]))
        fused = (x.gather(1, dropped[..., None].expand(-1, -1, x.shape[2])) * weight).sum(1, keepdim=True)
        values = torch.cat([values[:, :-1], fused], dim=1).flatten(0, 1)
        targets = dropped[:, :1].expand(-1, dropped.shape[1] - 1)
        return tokens.assign(
            rows_of(places, tokens),
            Counts.equal(places.shape[1], tokens.batch),
            values,
            None,
            rows_of(dropped[:, 1:], tokens),
            rows_of(targets, tokens),
        )
