"""Which blocks a method acts in, and how many tokens leave at each: a number of them, or a share of the grid.

Shapes: H x W grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from ..errors import SettingError


def check_blocks(blocks: Sequence[int] | None, depth: int) -> list[int]:
    """Where a method acts, as a list; None for the first block after each quarter of the depth (3, 6, 9 of 12).

    Raises:
        ValueError: blocks that a host of ``depth`` blocks does not have, out of order, or none.
    """
    blocks = sorted({max(depth * k // 4, 1) for k in (1, 2, 3)} & {*range(depth)}) if blocks is None else list(blocks)
    if not blocks or sorted({*blocks} & {*range(depth)}) != blocks:
        raise SettingError(f"blocks = {blocks}: list block numbers from 0 to {depth - 1}, ascending, each once")
    return blocks


def check_ratios(keep_ratio: Sequence[float] | float, number: int) -> list[float]:
    """Kept fractions of ``number`` blocks.

    Raises:
        ValueError: one is outside (0, 1], or their number is another.
    """
    ratios = [keep_ratio] * number if isinstance(keep_ratio, (int, float)) else list(keep_ratio)
    if len(ratios) != number or any(not 0 < ratio <= 1 for ratio in ratios):
        raise SettingError(
            f"keep_ratio = {keep_ratio}: give one ratio in (0, 1], or one for each of the {number} blocks"
        )
    return ratios


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
        raise SettingError(f"r = {r}: give whole numbers of tokens, or shares of the grid below 1; none is negative")
    if not isinstance(r, (int, float)):
        if len(given) > blocks:
            raise SettingError(f"r = {given}: give at most {blocks} numbers, one for each block")
        return [*given, *[0] * (blocks - len(given))]
    if not -1 <= inflection <= 1:
        raise SettingError(f"inflection is {inflection}; it must lie in [-1, 1]")
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
        raise SettingError(
            f"r is {r}, but a grid of {grid[0]} x {grid[1]} has {there} tokens to merge or drop; choose a "
            "smaller r, or a share of the grid (below 1)"
        )
    return int(r * there) if 0 < r < 1 else int(r)


class TokenSchedule:
    """Args:
        sites: how many there are.
        r: tokens that each site takes, or one number for each; the first site takes the prefix tokens' number more.
        keep_ratio: instead of ``r``, what is left of the grid after the last site, or after each. Default 0.1.

    Raises:
        ValueError: both are given, or one that is none of this.
    """

    def __init__(
        self, prune_after: int, r: Sequence[int] | int | None = None, keep_ratio: Sequence[float] | float | None = None
    ) -> None:
        if r is not None and keep_ratio is not None:
            raise SettingError("give r or keep_ratio, not both")
        self.r, self.shares = None, None
        if r is not None:
            self.r = [r] * prune_after if isinstance(r, (int, float)) else list(r)
            if len(self.r) != prune_after or any(not isinstance(n, int) or n < 0 for n in self.r):
                raise SettingError(
                    f"r = {r}: give a whole number of tokens, 0 or more, or one for each of the {prune_after} sites"
                )
        else:
            keep_ratio = 0.1 if keep_ratio is None else keep_ratio
            single = isinstance(keep_ratio, (int, float))
            shares = (
                [1 - (1 - keep_ratio) * (i + 1) / prune_after for i in range(prune_after)]
                if single
                else list(keep_ratio)
            )
            falling = shares == sorted(shares, reverse=True)
            if len(shares) != prune_after or any(not 0 < share <= 1 for share in shares) or not falling:
                raise SettingError(
                    f"keep_ratio = {keep_ratio}: give the fraction of the grid in (0, 1] that is left "
                    f"after the last site, or a falling one for each of the {prune_after} sites"
                )
            self.shares = shares
        self.anneal(1)

    def anneal(self, pruning_strength: Fraction | float) -> None:
        """Take fewer from now on: 0 none, 1 as many as configured."""
        # Worked out here: a compiled forward knows no fractions.
        self._taken = None if self.r is None else [int(r * pruning_strength) for r in self.r]
        self._shares = (
            None if self.shares is None else [float(1 - pruning_strength * (1 - share)) for share in self.shares]
        )

    def left(self, grid: tuple[int, int], prefix: int) -> list[int]:
        """How many tokens of a ``grid`` (H, W) are left after each site.

        Raises:
            ValueError: the sites take all that there are, or more.
        """
        there = grid[0] * grid[1]
        if self._taken is None:
            return [min(max(round(share * there), 1), there) for share in self._shares]
        first = prefix if self._taken[0] else 0
        left = [there - first - sum(self._taken[: i + 1]) for i in range(len(self._taken))]
        if left[-1] < 1:
            raise SettingError(
                f"r = {self.r} takes {there - left[-1]} tokens in {len(left)} sites, and a grid of "
                f"{grid[0]} x {grid[1]} has {there}: choose a smaller r, fewer sites, or a keep_ratio"
            )
        return left
