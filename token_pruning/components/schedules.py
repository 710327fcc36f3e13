"""How many tokens leave at each of several sites: a number of them, or a share of the grid.

Shapes: H x W grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction


class SiteRates:
    """Args:
        sites: how many there are.
        r: tokens that each site takes, or one number for each; the first site takes the prefix tokens' number more.
        keep_ratio: instead of ``r``, what is left of the grid after the last site, or after each. Default 0.1.

    Raises:
        ValueError: both are given, or one that is none of this.
    """

    def __init__(self, sites: int, r: Sequence[int] | int | None = None,
                 keep_ratio: Sequence[float] | float | None = None) -> None:
        if r is not None and keep_ratio is not None:
            raise ValueError("give r or keep_ratio, not both")
        self.r, self.shares = None, None
        if r is not None:
            self.r = [r] * sites if isinstance(r, (int, float)) else list(r)
            if len(self.r) != sites or any(not isinstance(n, int) or n < 0 for n in self.r):
                raise ValueError(f"r = {r}: give a whole number of tokens, 0 or more, or one for each of the {sites} "
                                 "sites")
        else:
            keep_ratio = 0.1 if keep_ratio is None else keep_ratio
            single = isinstance(keep_ratio, (int, float))
            shares = [1 - (1 - keep_ratio) * (i + 1) / sites for i in range(sites)] if single else list(keep_ratio)
            falling = shares == sorted(shares, reverse=True)
            if len(shares) != sites or any(not 0 < share <= 1 for share in shares) or not falling:
                raise ValueError(f"keep_ratio = {keep_ratio}: give the fraction of the grid in (0, 1] that is left "
                                 f"after the last site, or a falling one for each of the {sites} sites")
            self.shares = shares
        self.ease(1)

    def ease(self, strength: Fraction | float) -> None:
        """Take fewer from now on: 0 none, 1 as many as configured."""
        # Worked out here: a compiled forward knows no fractions.
        self._taken = None if self.r is None else [int(r * strength) for r in self.r]
        self._shares = None if self.shares is None else [float(1 - strength * (1 - share)) for share in self.shares]

    def left(self, grid: tuple[int, int], prefix: int) -> list[int]:
        """How many tokens of a ``grid`` (H, W) are left after each site.

        Raises:
            ValueError: the sites take all that there are, or more.
        """
        there = grid[0] * grid[1]
        if self._taken is None:
            return [min(max(round(share * there), 1), there) for share in self._shares]
        first = prefix if self._taken[0] else 0
        left = [there - first - sum(self._taken[:i + 1]) for i in range(len(self._taken))]
        if left[-1] < 1:
            raise ValueError(f"r = {self.r} takes {there - left[-1]} tokens in {len(left)} sites, and a grid of "
                             f"{grid[0]} x {grid[1]} has {there}: choose a smaller r, fewer sites, or a keep_ratio")
        return left
