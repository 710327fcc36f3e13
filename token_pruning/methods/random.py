"""Random selection: the baseline that every learned selection has to beat.

Shapes: T packed tokens, S of them on the grid.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..components.ranking import gumbel_noise, keep_top
from ..components.schedules import check_blocks, check_ratios
from ..reducer import Decision, Reducer, register
from ..tokens import TokenSet


@register
class Random(Reducer):
    """Every pruned block runs on a random subset of exactly the wanted size; prefix tokens always stay.

    Args:
        embed_dim, depth: of the host.
        blocks: numbers (from 0) of the pruned blocks, ascending.
        keep_ratio: kept fraction in (0, 1] of all pruned blocks, or one per block.
        seed: in evaluation every image gets the same random order in whatever batch it stands.

    Raises:
        ValueError: a block that the host does not have, or a ratio outside (0, 1].
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
        counts = tuple(n - tokens.prefix for n in tokens.counts)
        # A seed per block: otherwise every block would pick the same tokens.
        score = gumbel_noise(counts, 1, tokens.x.device, None if self.training else self.seed + block)[:, 0]
        wanted = tuple(round(ratio * n) for n in counts)
        keep = keep_top(score, counts, wanted)
        if tokens.prefix:
            keep = tokens.join_prefix(keep.new_ones(tokens.prefix * tokens.batch), keep)
        return Decision(keep, counts=tuple(tokens.prefix + n for n in wanted))
