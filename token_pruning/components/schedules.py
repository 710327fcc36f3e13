"""Which blocks a method acts in, and how many tokens leave in each: a number of tokens or a fraction of the grid.

Shapes: H x W grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from ..errors import SettingError
from ..rounding import rounded


def check_blocks(blocks: Sequence[int] | None, depth: int) -> list[int]:
    """Return the blocks that a method acts in as a list.

    ``blocks`` None: the first block after each quarter of the depth (3, 6, 9 of 12).

    Raises:
        SettingError: ``blocks`` is empty, not ascending, or has a block number outside 0 to ``depth`` - 1.
    """
    blocks = sorted({max(depth * k // 4, 1) for k in (1, 2, 3)} & {*range(depth)}) if blocks is None else list(blocks)
    if not blocks or sorted({*blocks} & {*range(depth)}) != blocks:
        raise SettingError(f"blocks = {blocks}: list block numbers from 0 to {depth - 1}, ascending, each once")
    return blocks


def check_ratios(keep_ratio: Sequence[float] | float, number: int) -> list[float]:
    """Return the keep ratio of each of ``number`` blocks.

    Raises:
        SettingError: a ratio is outside (0, 1], or there are more or fewer than ``number``.
    """
    ratios = [keep_ratio] * number if isinstance(keep_ratio, (int, float)) else list(keep_ratio)
    if len(ratios) != number or any(not 0 < ratio <= 1 for ratio in ratios):
        raise SettingError(
            f"keep_ratio = {keep_ratio}: give one ratio in (0, 1], or one for each of the {number} blocks"
        )
    return ratios


def r_schedule(r: float | Sequence[float], blocks: int, inflection: float = 0.0) -> list[float]:
    """Return how many tokens each of ``blocks`` blocks merges or drops.

    Numbers below 1 are fractions of the grid; 4.0 is 4 tokens.

    Args:
        r: one number for all blocks, or a list with one number per block (missing entries are 0).
        inflection: 0 for the same number in all blocks; towards -1 more in the first blocks, towards 1 more in the last
            ones, with a mean of about ``r``.

    Raises:
        SettingError: a number is negative or neither whole nor below 1, or there are more numbers than blocks.
    """
    given = [r] if isinstance(r, (int, float)) else list(r)
    if any(not isinstance(n, (int, float)) or not 0 <= n < math.inf or (n > 1 and n != int(n)) for n in given):
        raise SettingError(
            f"r = {r}: give whole numbers of tokens, or fractions of the grid below 1; none may be negative"
        )
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
    """Convert ``r`` to a number of tokens of a ``grid`` (H, W).

    Raises:
        SettingError: ``r`` is more than the grid has.
    """
    available = grid[0] * grid[1]
    if r > max(available, 1):
        raise SettingError(
            f"r is {r}, but a grid of {grid[0]} x {grid[1]} has {available} tokens to merge or drop; choose a "
            "smaller r, or a fraction of the grid (below 1)"
        )
    return math.trunc(r * available) if 0 < r < 1 else int(r)


class TokenSchedule:
    """Number of grid tokens that remain after each pruning block.

    Args:
        blocks: number of pruning blocks.
        r: tokens dropped at each pruning block, one number for all or one for each; the first one also drops as many as
            there are prefix tokens.
        keep_ratio: instead of ``r``, the fraction of the grid that remains after the last pruning block, or after each.
            Default 0.1.

    Raises:
        SettingError: both are given, or one is malformed or out of range.
    """

    def __init__(
        self, blocks: int, r: Sequence[int] | int | None = None, keep_ratio: Sequence[float] | float | None = None
    ) -> None:
        if r is not None and keep_ratio is not None:
            raise SettingError("give r or keep_ratio, not both: None leaves one out")
        self.r = None if r is None else _r_of_blocks(r, blocks)
        self.keep_ratios = _falling_ratios(0.1 if keep_ratio is None else keep_ratio, blocks)
        self.anneal(1)

    def anneal(self, pruning_strength: Fraction | float) -> None:
        """Scale how many tokens are dropped from now on: 0 drops none, 1 as many as configured."""
        # Computed here: a compiled forward cannot handle fractions.
        self._dropped = None if self.r is None else [int(r * pruning_strength) for r in self.r]
        self._keep_ratios = [float(1 - pruning_strength * (1 - ratio)) for ratio in self.keep_ratios]

    def tokens_left(self, grid: tuple[int, int], prefix: int) -> list[int]:
        """Return how many tokens of a ``grid`` (H, W) remain after each pruning block.

        Raises:
            SettingError: no token would remain.
        """
        available = grid[0] * grid[1]
        if self._dropped is None:
            return [min(max(rounded(ratio * available), 1), available) for ratio in self._keep_ratios]
        first = prefix if self._dropped[0] else 0
        left = [available - first - sum(self._dropped[: i + 1]) for i in range(len(self._dropped))]
        if left[-1] < 1:
            raise SettingError(
                f"r = {self.r} drops {available - left[-1]} tokens in {len(left)} pruning blocks, and a grid of "
                f"{grid[0]} x {grid[1]} has {available}: choose a smaller r, fewer pruning blocks, or a keep_ratio"
            )
        return left


def _r_of_blocks(r: Sequence[int] | int, blocks: int) -> list[int]:
    numbers = [r] * blocks if isinstance(r, (int, float)) else list(r)
    if len(numbers) != blocks or any(not isinstance(n, int) or n < 0 for n in numbers):
        raise SettingError(
            f"r = {r}: give a whole number of tokens, 0 or more, or one for each of the {blocks} pruning blocks"
        )
    return numbers


def _falling_ratios(keep_ratio: Sequence[float] | float, blocks: int) -> list[float]:
    if isinstance(keep_ratio, (int, float)):
        ratios = [1 - (1 - keep_ratio) * (i + 1) / blocks for i in range(blocks)]
    else:
        ratios = list(keep_ratio)
    falling = ratios == sorted(ratios, reverse=True)
    if len(ratios) != blocks or any(not 0 < ratio <= 1 for ratio in ratios) or not falling:
        raise SettingError(
            f"keep_ratio = {keep_ratio}: give the fraction of the grid in (0, 1] that remains after the last pruning "
            f"block, or one for each of the {blocks} pruning blocks, none above the one before"
        )
    return ratios
