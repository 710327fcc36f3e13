"""Random selection: the baseline for learned selection.

Shapes: T packed tokens, S of them on the grid.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..components.ranking import counts_of, gumbel_noise, keep_top
from ..components.schedules import check_blocks, check_ratios
from ..reducer import Decision, Reducer, register
from ..tokens import TokenSet


@register
class Random(Reducer):
    """Random subset of exactly the configured size in every pruned block; prefix tokens are always kept.

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.
        blocks: numbers (from 0) of the pruned blocks, ascending; default all but the first quarter.
        keep_ratio: in (0, 1], one for all pruned blocks or one per block.
        seed: seed of the random order in evaluation, which is the same for every image in any batch.

    Raises:
        SettingError: the host does not have a listed block, or a ratio is outside (0, 1].
    """

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        blocks: Sequence[int] | None = None,
        keep_ratio: Sequence[float] | float = 0.7,
        seed: int = 0,
    ) -> None:
        super().__init__(embed_dim, depth)
        blocks = check_blocks(range(depth // 4, depth) if blocks is None else blocks, depth)
        self.ratio_of = dict(zip(blocks, check_ratios(keep_ratio, len(blocks)), strict=True))
        self.seed = seed

    @property
    def pruned_blocks(self) -> list[int]:
        return list(self.ratio_of)

    def before_block(self, block: int, tokens: TokenSet, state: None) -> Decision | None:
        ratio = self.ratio_of.get(block)
        if ratio is None:
            return None
        counts = counts_of(tokens).plus(-tokens.prefix)
        # One seed per block: otherwise every block would select the same tokens.
        score = gumbel_noise(counts, 1, tokens.x.device, None if self.training else self.seed + block)[:, 0]
        kept = counts.share(ratio)
        keep = keep_top(score, counts, kept)
        if tokens.prefix:
            keep = tokens.join_prefix(keep.new_ones(tokens.prefix * tokens.batch), keep)
        return Decision(keep, counts=kept.plus(tokens.prefix))
