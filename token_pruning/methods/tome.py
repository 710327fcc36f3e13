"""ToMe: merge the most similar tokens in each block.

"Token Merging: Your ViT But Faster", Bolya et al., ICLR 2023.

Shapes: T packed tokens, B images, n tokens of each image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..attention import QKV
from ..components.class_attention import key_mean
from ..components.matching import Match, bipartite_matching, max_merged
from ..components.ranking import equal_count, rows_of, sort_rows
from ..components.schedules import check_blocks, r_of_grid, r_schedule
from ..counts import Counts
from ..errors import SettingError
from ..reducer import Reducer, register
from ..tokens import TokenSet

ORDERS = ("published", "map")


@register
class ToMe(Reducer):
    """Bipartite merging of the ``r`` tokens with the most similar keys, between attention and MLP of each block.

    Prefix tokens are never merged. All images of a batch keep equally many tokens.

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.
        r: number of tokens that each block merges away, at most half of them; below 1 a fraction of the grid; or a list
            with one entry for each of ``blocks``.
        inflection: with one ``r`` for all blocks: 0 constant, towards -1 more in the first blocks, towards 1 more in
            the last.
        blocks: blocks that merge, ascending; default all.
        prop_attn: proportional attention: merged tokens are weighted by their size. Off for models trained as masked
            autoencoders, according to the paper. Averages are weighted by size in any case.
        order: order of the tokens after a merge, which determines the pairs that the next block can merge. "published"
            changes it in each block; "map" keeps the order of the dense map.

    Raises:
        SettingError: an argument is out of range.
    """

    cost_param = ("r", 0, 1000)
    keep_all = {"r": 0}

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        r: float | Sequence[float] = 8,
        inflection: float = 0.0,
        blocks: Sequence[int] | None = None,
        prop_attn: bool = True,
        order: str = "published",
    ) -> None:
        super().__init__(embed_dim, depth)
        blocks = check_blocks(range(depth) if blocks is None else blocks, depth)
        if order not in ORDERS:
            raise SettingError(f"order is {order!r}; choose one of {', '.join(ORDERS)}")
        self.r_of = dict(zip(blocks, r_schedule(r, len(blocks), inflection), strict=True))
        self.prop_attn, self.order = prop_attn, order

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(min(self.r_of), self.depth))

    def removed_by(self, block: int, tokens: TokenSet) -> int:
        """Return how many tokens ``block`` removes from each image."""
        most = max_merged(equal_count(tokens), tokens.prefix)
        return min(r_of_grid(self.r_of.get(block, 0), tokens.grid), most)

    def after_attention(self, block: int, tokens: TokenSet, qkv: QKV, state: Any) -> TokenSet:
        r = self.removed_by(block, tokens)
        if not r:
            return tokens
        match = bipartite_matching(tokens.by_image(key_mean(qkv).detach()), r, tokens.prefix)
        rows = sort_rows(match.rows, tokens) if self.order == "map" else match.rows
        return merge(tokens, match._replace(rows=rows))


def merge(tokens: TokenSet, match: Match, joins: Tensor | None = None) -> TokenSet:
    """Merge the pairs of ``match`` in each image; ``joins`` (B, r) as in ``TokenSet.merge``."""
    counts = Counts.equal(match.rows.shape[1], tokens.batch)
    rows, sources, targets = (rows_of(part, tokens) for part in match)
    return tokens.merge(rows, counts, sources, targets, None if joins is None else joins.flatten())
