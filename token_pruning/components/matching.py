"""Which tokens are alike enough to become one: bipartite soft matching ("Token Merging: Your ViT But Faster", Bolya et
al., ICLR 2023, section 3).

Shapes: B images, n tokens of each, D channels of the metric, r tokens to be merged away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Match(NamedTuple):
    """Rows of each image.

    Attributes:
        rows: (B, n - r) the tokens that remain, in their new order.
        sources: (B, r) the tokens that are merged away.
        targets: (B, r) the token of ``rows`` that each of them is merged into.
    """

    rows: Tensor
    sources: Tensor
    targets: Tensor


def most(tokens: int, protected: int) -> int:
    """How many of ``tokens`` tokens one matching can merge away at most."""
    return max((tokens - protected) // 2, 0)


def bipartite_matching(metric: Tensor, r: int, protected: int = 0) -> Match:
    """Tokens at even places propose their most similar token (cosine) at an odd place; the ``r`` best proposals hold.

    Args:
        metric: (B, n, D).
        r: at most ``most(n, protected)``.
        protected: the first so many tokens are neither merged away nor merged into.

    Returns:
        Those at even places that remain, then those at odd places: the order changes from block to block, and with it
        who can be paired. Protected tokens stay in front; without any, the remaining ones stand by falling similarity
        (both as published).
    """
    n = metric.shape[1]
    metric = F.normalize(metric.float(), dim=-1)
    even, odd = metric[:, ::2], metric[:, 1::2]
    with torch.autocast(metric.device.type, enabled=False):  # in half precision many similarities would be equal
        similarity = even @ odd.transpose(1, 2)
    if protected > 1:
        similarity[:, :, :protected // 2] = -torch.inf
    best, partner = similarity.max(dim=2)
    if protected:
        best[:, :(protected + 1) // 2] = -torch.inf
    order = best.argsort(dim=1, descending=True, stable=True)
    away, stay = order[:, :r], order[:, r:]
    stay = stay.sort(dim=1).values if protected else stay
    targets = partner.gather(1, away) * 2 + 1
    others = torch.arange(1, n, 2, device=metric.device).expand(len(metric), -1)
    first_even, first_odd = (protected + 1) // 2, protected // 2
    parts = [stay[:, first_even:] * 2, others[:, first_odd:]]
    if protected:
        parts.insert(0, torch.arange(protected, device=metric.device).expand(len(metric), -1))
    return Match(torch.cat(parts, dim=1), away * 2, targets)


def r_schedule(r: float | Sequence[float], blocks: int, inflection: float = 0.0) -> list[float]:
    """How many tokens each of ``blocks`` blocks merges or drops; fractions below 1 are shares of the grid, and 4.0 is
    4 tokens.

    Args:
        r: of each block, or a list of its own (missing entries are 0).
        inflection: 0 the same in all blocks; towards -1 more in the first, towards 1 more in the last, about ``r`` on
            average.

    Raises:
        ValueError: a number that is negative or neither whole nor below 1, or more entries than blocks.
    """
    given = [r] if isinstance(r, (int, float)) else list(r)
    if any(not isinstance(n, (int, float)) or not 0 <= n < math.inf or (n > 1 and n != int(n)) for n in given):
        raise ValueError(f"r = {r}: give whole numbers of tokens, or shares of the grid below 1; none is negative")
    if not isinstance(r, (int, float)):
        if len(given) > blocks:
            raise ValueError(f"r = {given}: give at most {blocks} numbers, one for each block")
        return [*given, *[0] * (blocks - len(given))]
    if not -1 <= inflection <= 1:
        raise ValueError(f"inflection is {inflection}; it must lie in [-1, 1]")
    whole = int if r == int(r) else float
    low = whole(r * (1 - inflection))
    rise = 2 * (r - low)
    steps = [whole(low + i * rise / max(blocks - 1, 1)) for i in range(blocks)]
    return steps if whole is int else [min(step, 0.5) for step in steps]  # more than half cannot go, and 1 is a number


def r_of_grid(r: float, grid: tuple[int, int]) -> int:
    """``r`` as a number of tokens of a ``grid`` (H, W).

    Raises:
        ValueError: more than there are.
    """
    there = grid[0] * grid[1]
    if r > max(there, 1):
        raise ValueError(f"r is {r}, but a grid of {grid[0]} x {grid[1]} has {there} tokens to merge or drop; choose a "
                         "smaller r, or a share of the grid (below 1)")
    return int(r * there) if 0 < r < 1 else int(r)
