"""MPM: merge tokens that are each other's nearest neighbours before a few blocks.

MPM, Rave, Rasti and Rousseau, CVPR Findings 2026, arXiv 2604.05718. The method has no parameters.

Shapes: T packed tokens, B images, n tokens of one image, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..components.ranking import counts_of, sum_per_image
from ..components.schedules import check_blocks
from ..components.similarity import best_match, unit
from ..counts import Counts
from ..errors import SettingError
from ..reducer import Reducer, register
from ..tokens import TokenSet

PUBLISHED = (2, 5)  # for hosts of every size


@register
class MPM(Reducer):
    """Merging of mutual nearest neighbours by cosine similarity of the tokens that enter a block.

    A token can be in one pair only, and a pair becomes the mean of its two. There is no threshold: how many pairs an
    image has follows from its tokens, usually 20 to 25 % of them. Sizes are not kept: at the next merge a pair counts
    as one token, so that a pair of pairs is a mean of means, and attention is not weighted. (If the host changes the
    map in between, a merged token takes the mean over its positions.) Prefix tokens are never merged.

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.
        blocks: blocks before which tokens are merged, ascending; default 2 and 5, as published for every size.
        merges: instead of ``blocks``, how often tokens are merged: before that many blocks, evenly spread over the
            first half of the host (2 and 5 of 12), or before the first ``merges`` blocks if the half has fewer.

    Raises:
        SettingError: both are given, or one is out of range.
    """

    fixed_shapes = False
    cost_param = ("merges", 0, 100)
    keep_all = {"merges": 0}

    def __init__(
        self, embed_dim: int, depth: int, blocks: Sequence[int] | None = None, merges: int | None = None
    ) -> None:
        super().__init__(embed_dim, depth)
        if blocks is not None and merges is not None:
            raise SettingError("give blocks or merges, not both")
        if merges is not None:
            self.blocks = _spread(merges, depth)
        else:
            published = [block for block in PUBLISHED if block < depth] or [depth - 1]
            self.blocks = check_blocks(published if blocks is None else blocks, depth)

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(min(self.blocks, default=self.depth), self.depth))

    def enter_block(self, block: int, tokens: TokenSet, state: None) -> TokenSet:
        return merge_mutual_pairs(tokens) if block in self.blocks else tokens


def merge_mutual_pairs(tokens: TokenSet) -> TokenSet:
    """Merge every two grid tokens that are each other's nearest neighbours; the order of the tokens stays."""
    nearest = nearest_tokens(tokens)
    rows = torch.arange(len(nearest), device=nearest.device)
    leaves = (nearest[nearest] == rows) & (nearest < rows)
    before = counts_of(tokens)
    left = sum_per_image(leaves.long(), before).tolist()  # the only wait for the device
    counts = Counts.of([n - gone for n, gone in zip(before, left, strict=True)])
    if not sum(left):
        return tokens
    stays = torch.nonzero_static(~leaves, size=counts.total).squeeze(1)
    sources = torch.nonzero_static(leaves, size=sum(left)).squeeze(1)
    return tokens.with_sizes(None).merge(stays, counts, sources, nearest[sources]).with_sizes(None)


def nearest_tokens(tokens: TokenSet) -> Tensor:
    """Return the row of the most similar other grid token of its image, (T,) int64; a prefix token gets its own row."""
    found, start = [], 0
    for part in counts_of(tokens).groups(unit(tokens.x)):
        images, n, _ = part.shape
        rows = torch.arange(start, start + images * n, device=part.device).view(images, n)
        if n > tokens.prefix:
            part = part[:, tokens.prefix :]
            places = best_match(part, part, others=True)[1]
            rows = torch.cat([rows[:, : tokens.prefix], rows[:, tokens.prefix :].gather(1, places)], dim=1)
        found.append(rows.flatten())
        start += images * n
    return torch.cat(found)


def _spread(merges: float, depth: int) -> list[int]:
    """Return ``merges`` block numbers, evenly spread over the first half of ``depth`` blocks if they fit there."""
    if not isinstance(merges, int | float) or not merges >= 0 or merges % 1:
        raise SettingError(f"merges is {merges}; give a whole number of blocks, 0 or more")
    merges = int(min(merges, depth))
    span = max(depth // 2, merges)
    return [span * (k + 1) // merges - 1 for k in range(merges)]
