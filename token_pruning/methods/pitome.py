"""PiToMe: merge tokens that have many similar ones and protect those that have few.

"Accelerating Transformers with Spectrum-Preserving Token Merging", Tran et al., NeurIPS 2024. The method has no
parameters.

Shapes: T packed tokens, B images, n tokens of each image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..attention import QKV
from ..components.class_attention import key_mean
from ..components.matching import energy_matching
from ..components.ranking import equal_count
from ..components.schedules import check_blocks
from ..errors import SettingError
from ..reducer import Reducer, register
from ..tokens import TokenSet
from .tome import merge

MODES = ("standard", "bsm")


@register
class PiToMe(Reducer):
    """Merging by energy, between attention and MLP of each block: the mean similarity of a token's key to all others.

    All images of a batch keep equally many tokens, in the order of the map; their order makes no difference to what is
    merged. Prefix tokens are never merged.

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.
        keep_ratio: in [0.5, 1], the share of its tokens that every listed block keeps.
        blocks: blocks that merge, ascending; default all.
        margin: similarity above which a token counts in full, in block 0; it falls linearly to 0 behind the last block.
            0.75 is the released value for DeiT and MAE, 0.9 the paper's.
        matching: "standard" merges tokens of high energy and protects the others. "bsm" protects none: all tokens,
            sorted by energy, are matched as in ToMe. One for all blocks (the paper: "standard"), or two, of the first
            half of the blocks (rounded up) and of the others; the default is the released schedule for DeiT, that for
            MAE has the two exchanged.
        prop_attn: proportional attention: merged tokens are weighted by their size. On in the paper, off in its
            released code. Averages are weighted by size in any case.

    Raises:
        SettingError: an argument is out of range.
    """

    cost_param = ("keep_ratio", 0.5, 1.0)

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        keep_ratio: float = 0.9125,
        blocks: Sequence[int] | None = None,
        margin: float = 0.75,
        matching: str | Sequence[str] = MODES[::-1],
        prop_attn: bool = False,
    ) -> None:
        super().__init__(embed_dim, depth)
        if not isinstance(keep_ratio, int | float) or not 0.5 <= keep_ratio <= 1:
            raise SettingError(
                f"keep_ratio = {keep_ratio}: give one share in [0.5, 1] for all blocks; a block can merge half of its "
                "tokens away"
            )
        if not -1 <= margin <= 1:
            raise SettingError(f"margin is {margin}; it is a cosine similarity, in [-1, 1]")
        modes = (matching, matching) if isinstance(matching, str) else tuple(matching)
        if len(modes) != 2 or not {*modes} <= {*MODES}:
            raise SettingError(f"matching is {matching!r}; choose {' or '.join(MODES)}, or one of them for each half")
        self.blocks = check_blocks(range(depth) if blocks is None else blocks, depth)
        self.keep_ratio, self.margin, self.modes, self.prop_attn = keep_ratio, margin, modes, prop_attn

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(min(self.blocks), self.depth))

    def margin_of(self, block: int) -> float:
        """Return the margin of a block."""
        return self.margin * (1 - block / self.depth)

    def mode_of(self, block: int) -> str:
        """Return the mode of a block."""
        first, rest = self.modes
        return first if block < (self.depth + 1) // 2 else rest

    def removed_by(self, block: int, tokens: TokenSet) -> int:
        """Return how many tokens ``block`` removes from each image."""
        available = max(equal_count(tokens) - tokens.prefix, 0)
        # Not floor(n (1 - ratio)), which rounds differently: this is the published order of the operations.
        return math.trunc(available - available * self.keep_ratio) if block in self.blocks else 0

    def after_attention(self, block: int, tokens: TokenSet, qkv: QKV, state: None) -> TokenSet:
        r = self.removed_by(block, tokens)
        if not r:
            return tokens
        metric, protect = tokens.by_image(key_mean(qkv)), self.mode_of(block) == "standard"
        return merge(tokens, energy_matching(metric, r, self.margin_of(block), protect, protected=tokens.prefix))
