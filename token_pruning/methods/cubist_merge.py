"""CubistMerge: merge neighbours once, so that the tokens still form a grid.

"CubistMerge: Spatial-Preserving Token Merging For Diverse ViT Backbones", 2025.

Shapes: T packed tokens, B images, H x W grid, h x w smaller grid, P prefix tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..components.grid_merging import RULES, lines_left, merge_grid
from ..components.ranking import rows_of
from ..counts import Counts
from ..errors import SettingError
from ..reducer import Reducer, register
from ..rounding import rounded
from ..tokens import SubGrid, TokenSet


@register
class CubistMerge(Reducer):
    """Merging before one block that takes equally many tokens of each row and of each column of the grid.

    First ``r`` tokens of each row join a neighbour in the row, then ``r`` of each column one in the column; a merged
    token has, in each channel, the value of largest magnitude. Prefix tokens are never merged; merged tokens have no
    size. All later blocks see a plain, smaller grid, so windowed attention goes on in smaller windows, and rotary
    positions are those of the smaller grid, as published.

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.
        r: number of rows and columns that go, at most half of them; below 1 a fraction of each side, rounded; or a pair
            (rows, columns). With ``window_size``, those of each window.
        block: the tokens are merged before this block; default 1, as published for DeiT.
        rule: value of a token that two others join: "released", as the released code computes it, or "group", the
            largest magnitude of all three, as in the paper.
        window_size: side of the windows of a host whose blocks, from ``block`` on, attend globally or in windows of
            this side. Groups then stay inside a window, and all windows keep one size.

    Raises:
        SettingError: an argument is out of range.
    """

    needs_grid = True
    cost_param = ("r", 0, 1000)
    keep_all = {"r": 0}

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        r: float | Sequence[float] = 1,
        block: int | None = None,
        rule: str = "released",
        window_size: int | None = None,
    ) -> None:
        super().__init__(embed_dim, depth)
        self.block = min(1, depth - 1) if block is None else block
        if self.block not in range(depth):
            raise SettingError(f"block is {block}; give the number of a block, 0 to {depth - 1}")
        if rule not in RULES:
            raise SettingError(f"rule is {rule!r}; choose one of {', '.join(RULES)}")
        self.r = _pair(r)
        if window_size is not None and (not isinstance(window_size, int) or window_size < 1):
            raise SettingError(f"window_size is {window_size!r}; give the side of the windows in tokens")
        if window_size is not None and max(_lines(n, 0) for n in self.r) > window_size // 2:
            raise SettingError(
                f"r = {r} with a window_size of {window_size}: each window can lose at most half of its rows and "
                f"columns, {window_size // 2}"
            )
        self.rule, self.window_size = rule, window_size

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(self.block, self.depth))

    def check_windows(self, windows: Sequence[int | None]) -> None:
        """Check that all windowed blocks after the merge have windows of ``window_size``.

        Raises:
            SettingError: one has not.
        """
        for block in self.pruned_blocks if windows else ():
            if windows[block] not in (None, self.window_size):
                raise SettingError(
                    f"block {block} attends in windows of {windows[block]}, and CubistMerge reduces "
                    f"{'the grid as one' if self.window_size is None else f'windows of {self.window_size}'}; set its "
                    f"window_size={windows[block]}"
                )

    def lines_removed(self, tokens: TokenSet) -> tuple[int, int]:
        """Return how many rows and columns go of the grid, or of each window (of one that the edge cuts off fewer)."""
        rows, columns = (min(_lines(r, n), n // 2) for r, n in zip(self.r, self._sides(tokens), strict=True))
        return rows, columns

    def _sides(self, tokens: TokenSet) -> tuple[int, int]:
        return tokens.grid if self.window_size is None else (self.window_size, self.window_size)

    def enter_block(self, block: int, tokens: TokenSet, state: None) -> TokenSet:
        if block != self.block or not any(self.r):
            return tokens
        if not tokens.is_full:
            raise SettingError(
                f"CubistMerge before block {block} needs all tokens of the grid, and some were dropped or merged "
                "before it; merge before that"
            )
        r = self.lines_removed(tokens)
        small = tuple(lines_left(*line, self.window_size) for line in zip(tokens.grid, r, strict=True))
        if small == tokens.grid:
            return tokens
        prefix, x = tokens.prefix, tokens.by_image(tokens.x)
        merged = merge_grid(x[:, prefix:], tokens.grid, r, self.rule, self.window_size)
        first = torch.arange(prefix, device=x.device).expand(x.shape[0], -1)
        rows = torch.cat([first, merged.rows + prefix], dim=1)
        # Of each place of the grid, the place that represents it.
        targets = torch.cat([first, merged.rows.gather(1, merged.place) + prefix], dim=1)
        reduced = tokens.assign(
            rows_of(rows, tokens),
            Counts.equal(rows.shape[1], tokens.batch),
            torch.cat([x[:, :prefix], merged.x], dim=1).flatten(0, 1),
            None,
            torch.arange(tokens.x.shape[0], device=x.device),
            rows_of(targets, tokens),
        )
        window = self.window_size
        shape = merged.grid if window is None else (window - r[0], window - r[1])
        return reduced.with_subgrid(SubGrid(merged.grid, window, shape))


def _pair(r: float | Sequence[float]) -> tuple[float, float]:
    pair = (r, r) if isinstance(r, (int, float)) else tuple(r)
    wrong = [n for n in pair if not isinstance(n, (int, float)) or not n >= 0 or (n >= 1 and n % 1 != 0)]
    if len(pair) != 2 or wrong:
        raise SettingError(
            f"r = {r}: give a whole number of rows and columns, a fraction of each side below 1, or a pair of them "
            "(rows, columns); none may be negative"
        )
    return pair[0], pair[1]


def _lines(r: float, side: int) -> int:
    return rounded(r * side) if r < 1 else int(r)
