"""ALGM: merge similar tokens within small windows in an early block, and all over the image in a later one.

"ALGM: Adaptive Local-then-Global Token Merging for Efficient Semantic Segmentation with Plain Vision Transformers",
Norouzi et al., CVPR 2024. The method has no parameters.

Shapes: T packed tokens, B images, N positions, n tokens of one image, W windows of k positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from ..attention import QKV
from ..components.matching import best_partners, keep_pairs, max_merged
from ..components.ranking import counts_of, ranks
from ..components.schedules import check_blocks
from ..components.windows import window_members, window_similarity
from ..counts import Counts
from ..errors import SettingError
from ..reducer import Reducer, register
from ..tokens import TokenSet
from .tome import ORDERS

COUNTS = ("image", "batch")
# Rows that stay, their number in each image, rows that leave and the row that each is merged into (TokenSet.merge).
Plan: TypeAlias = tuple[Tensor, Counts, Tensor, Tensor]


@register
class ALGM(Reducer):
    """Merging by thresholds on the cosine similarity of the tokens, between attention and MLP of the listed blocks.

    In the first listed block, windows whose mean similarity reaches ``threshold`` become one token each. In the others,
    a bipartite matching (as in ToMe) merges the pairs whose similarity reaches the image's mean plus its standard
    deviation divided by the number of the block, counted from 1. Averages are weighted by size, attention is not.
    Prefix tokens are never merged.

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.
        blocks: blocks that merge, ascending; default the published 0 and 4, of 24 blocks 0 and 6.
        threshold: in [-1, 1]; None merges no windows. Published for models trained with it: 0.88 to 0.95 on ADE20K.
        window: height and width of a window, or one number for both. A window that the border of the grid cuts is not
            merged.
        order: order of the tokens after a merge, which determines the pairs that the next block can merge. "published":
            merged windows first, by falling similarity, later as in ToMe; "map": that of the dense map.
        count: "image" lets each image merge its own number. "batch" follows the released code, where the image that
            would merge the fewest sets the number for the whole batch, and the threshold of the later blocks is a mean
            over the batch; only for comparison with that code.

    Raises:
        SettingError: an argument is out of range, or the first listed block gets a set from which tokens are missing.
    """

    fixed_shapes = False
    needs_grid = True
    cost_param = ("threshold", -1.0, 1.0)
    keep_all = {"threshold": None, "blocks": [0]}

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        blocks: Sequence[int] | None = None,
        threshold: float | None = 0.88,
        window: Sequence[int] | int = 2,
        order: str = "published",
        count: str = "image",
    ) -> None:
        super().__init__(embed_dim, depth)
        later = 6 if depth >= 24 else min(4, depth - 1)
        self.blocks = check_blocks(sorted({0, later}) if blocks is None else blocks, depth)
        sides = [window, window] if isinstance(window, int) else list(window)
        if len(sides) != 2 or any(not isinstance(n, int) or n < 1 for n in sides) or sides == [1, 1]:
            raise SettingError(f"window is {window}; give a height and a width, together of two positions or more")
        self.window = (sides[0], sides[1])
        self.threshold, self.order, self.count = threshold, order, count
        self._check()

    def _check(self) -> None:
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise SettingError(
                f"threshold is {self.threshold}; it is a cosine similarity, in [-1, 1], or None to merge no windows"
            )
        for name, value, known in (("order", self.order, ORDERS), ("count", self.count, COUNTS)):
            if value not in known:
                raise SettingError(f"{name} is {value!r}; choose one of {', '.join(known)}")

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(min(self.blocks), self.depth))

    def after_attention(self, block: int, tokens: TokenSet, qkv: QKV, state: None) -> TokenSet:
        if block not in self.blocks:
            return tokens
        plan = self.pairs(tokens, block + 1) if block > self.blocks[0] else self.windows(tokens)
        return tokens if plan is None else tokens.merge(*plan)

    def windows(self, tokens: TokenSet) -> Plan | None:
        """Return which tokens of a full set to merge: windows whose mean similarity reaches the threshold.

        Raises:
            SettingError: the set is not full.
        """
        if not tokens.is_full:
            raise SettingError("ALGM merges windows of the whole grid, and tokens of it are merged or dropped already")
        if self.threshold is None:
            return None
        prefix, device = tokens.prefix, tokens.x.device
        members = window_members(tokens.grid, self.window, device)
        similarity = window_similarity(tokens.by_image(tokens.x)[:, prefix:], members)
        members = members + prefix
        passing = similarity >= self.threshold
        if self.count == "batch":
            passing = _first(similarity, passing.sum(1).min().expand(tokens.batch))
        left = tokens.positions - passing.sum(1) * (members.shape[1] - 1)
        counts = Counts.of(left.tolist())  # the only wait for the device
        # Of each position: whether its window is merged, and the first position of the window.
        merged = torch.zeros(tokens.batch, tokens.positions, dtype=torch.bool, device=device)
        first = torch.zeros_like(merged, dtype=torch.int64)
        merged[:, members] = passing[..., None].expand(-1, *members.shape)
        first[:, members] = members[:, :1].expand_as(members)
        places = torch.arange(tokens.positions, device=device).expand_as(first)
        leaves, stands = merged & (first != places), merged & (first == places)
        key = torch.zeros_like(merged, dtype=similarity.dtype)
        if self.order == "published":
            key[:, members[:, 0]] = similarity.where(passing, 0)
        by_similarity = key.argsort(dim=1, descending=True, stable=True)
        # Prefix tokens, merged windows, other tokens, and last those that leave.
        rank = leaves * 3 + ~merged * 2 + stands * (1 if self.order == "published" else 2)
        rank[:, :prefix] = 0
        order = by_similarity.gather(1, rank.gather(1, by_similarity).argsort(dim=1, stable=True))
        start = torch.arange(tokens.batch, device=device)[:, None] * tokens.positions
        stay = torch.nonzero_static((places < left[:, None]).flatten(), size=counts.total).squeeze(1)
        sources = torch.nonzero_static(leaves.flatten(), size=leaves.numel() - counts.total).squeeze(1)
        return (order + start).flatten()[stay], counts, sources, (first + start).flatten()[sources]

    def pairs(self, tokens: TokenSet, number: int) -> Plan | None:
        """Return which similar tokens of each image to merge; ``number`` of the block, from 1, sets how many."""
        counts = counts_of(tokens)
        found = [best_partners(part[None], tokens.prefix) for part in counts.split(tokens.x)]
        # The first place is no part of the statistics, also where it is no prefix token (as published).
        first = max((tokens.prefix + 1) // 2, 1)
        values = [best[0, first:] for best, _ in found]
        means = torch.stack([part.mean() for part in values])
        margins = torch.stack([_deviation(part) for part in values]) / number
        limits = means + margins
        if self.count == "batch":
            limits = (means.mean() + margins.mean()).expand_as(limits)
        passing = torch.stack([(best >= limit).sum() for (best, _), limit in zip(found, limits, strict=True)]).tolist()
        if self.count == "batch":
            passing = [min(passing)] * len(passing)
        removed = [min(r, max_merged(n, tokens.prefix)) for r, n in zip(passing, counts, strict=True)]
        if not any(removed):
            return None
        parts, start = [], 0
        for (best, partner), r, n in zip(found, removed, counts, strict=True):
            match = keep_pairs(best, partner, n, r, tokens.prefix)
            parts.append([part[0] + start for part in match])
            start += n
        rows, sources, targets = map(torch.cat, zip(*parts, strict=True))
        counts = Counts.of([n - r for n, r in zip(counts, removed, strict=True)])
        if self.order == "map" and tokens.index is not None:
            rows = rows[tokens.index[rows].argsort()]
        elif self.order == "map":
            rows = rows.sort().values
        return rows, counts, sources, targets


def _deviation(values: Tensor) -> Tensor:
    """Return the standard deviation, with divisor n - 1, of ``values`` (n,); NaN for fewer than two."""
    return values.std() if len(values) > 1 else values.new_full((), torch.nan)


def _first(score: Tensor, number: Tensor) -> Tensor:
    """Return a mask of the ``number`` (B,) highest scores (B, n)."""
    return ranks(score) < number[:, None]
