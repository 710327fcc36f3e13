"""Adapters of blocks whose attention knows rows and columns: SAM, SAM 3 and ViTDet, in windows or on the whole grid.

Such a block runs on every token of the grid, or on a smaller grid (``TokenSet.subgrid``) to which every window was
reduced by itself, as CubistMerge does. Its positions are then those of the smaller grid.

Shapes: T packed tokens, B images, N positions, H heads, D channels of a head, W windows of r x c tokens (n = r * c).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention import NO_WINDOWS, QKV, through_module, window_layout
from ..errors import SettingError
from ..tokens import TokenSet
from .protocol import BlockAdapter


class GridBlock(BlockAdapter):
    """A block that attends in windows of the grid or, without ``window``, globally on a grid.

    A map that no whole number of windows covers is padded with zeros at the right and bottom before the projection to
    q, k, v, and the padding is not masked, as published.

    Attributes:
        window: side of the windows in tokens, None for global attention.
    """

    window: int | None = None

    def position_bias(self, q: Tensor, shape: tuple[int, int]) -> Tensor | None:
        """Return what is added to the logits (W, H, n, n) of windows of ``shape`` (r, c), or None.

        Args:
            q: (W, H, n, D).
        """
        return None

    def rotate(self, q: Tensor, k: Tensor, shape: tuple[int, int], dense: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return q and k (W, H, n, D), rotated by the positions in windows of ``shape`` that once were ``dense``."""
        return q, k

    def attend(
        self,
        x: Tensor,
        tokens: TokenSet,
        keys: Tensor | None = None,
        prop_attn: bool = False,
        rope: Tensor | None = None,
        visible: Tensor | None = None,
    ) -> tuple[Tensor, QKV]:
        """Run the attention; a grid has no masked keys and no sizes.

        Raises:
            SettingError: the tokens form no grid, or one whose windows were not reduced one by one.
        """
        if tokens.prefix or keys is not None or visible is not None:
            raise SettingError(NO_WINDOWS)
        return through_module(self, x, tokens, lambda x: self._attend(x, tokens))

    def _attend(self, x: Tensor, tokens: TokenSet) -> tuple[Tensor, QKV]:
        grid, shape = self._layout(tokens)
        dense = tokens.grid if self.window is None else (self.window, self.window)
        qkv = self.qkv(x)
        places, rows = window_places(tokens.batch, grid, shape, x.device)
        values = list(qkv[:3])
        if places.numel() > len(x):  # one row stands for all padding
            values = [torch.cat(pair) for pair in zip(values, self.qkv(torch.zeros_like(x[:1]))[:3], strict=True)]
        q, k, v = (t[places].transpose(1, 2) for t in values)
        bias = self.position_bias(q, shape)
        q, k = self.rotate(q, k, shape, dense)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=self.attn_dropout)
        return self.project(out.transpose(1, 2).flatten(0, 1)[rows].flatten(1), x), qkv

    def _layout(self, tokens: TokenSet) -> tuple[tuple[int, int], tuple[int, int]]:
        if self.window is not None:
            return window_layout(tokens, self.window)
        grid = tokens.grid if tokens.is_full else tokens.subgrid and tokens.subgrid.grid
        if grid is None:
            raise SettingError(NO_WINDOWS)
        return grid, grid


def window_places(
    batch: int, grid: tuple[int, int], window: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return which token is at each place of each window, and at which place each token is.

    Args:
        batch: B.
        grid: (h, w) that the tokens of each image form.
        window: (r, c); windows overlap the grid at the right and bottom.

    Returns:
        (W, n) int64, T for padding; (T,) int64 into the flattened first.
    """
    (rows, columns), (high, broad) = grid, window
    down, right = -rows % high, -columns % broad
    tall, wide = (rows + down) // high, (columns + right) // broad
    total = batch * rows * columns
    token = torch.arange(total, device=device).view(batch, rows, columns)
    token = F.pad(token, (0, right, 0, down), value=total).view(batch, tall, high, wide, broad)
    place = torch.arange(token.numel(), device=device).view(batch, tall, wide, high, broad)
    place = place.transpose(2, 3).reshape(batch, tall * high, wide * broad)[:, :rows, :columns]
    return token.transpose(2, 3).reshape(-1, high * broad), place.flatten()


def decomposed_bias(q: Tensor, tables: tuple[Tensor, Tensor], shape: tuple[int, int]) -> Tensor:
    """Return the bias (W, H, n, n) of decomposed relative positions (MViTv2, as in ViTDet and SAM).

    Args:
        q: (W, H, n, D), not scaled.
        tables: of rows and of columns, (2s - 1, D) for s of them; resized linearly to the window at hand.
        shape: (r, c) of the window.
    """
    of_row, of_column = (relative_positions(t, n).to(q.dtype) for t, n in zip(tables, shape, strict=True))
    q = q.unflatten(2, shape)
    rows = torch.einsum("whrcd,rkd->whrck", q, of_row)
    columns = torch.einsum("whrcd,ckd->whrck", q, of_column)
    return (rows[..., :, None] + columns[..., None, :]).flatten(4).flatten(2, 3)


def relative_positions(table: Tensor, n: int) -> Tensor:
    """Return the rows (n, n, D) of a table (2s - 1, D), resized to 2n - 1, for each pair of n queries and n keys."""
    if len(table) != 2 * n - 1:
        table = F.interpolate(table.mT[None], size=2 * n - 1, mode="linear")[0].mT
    place = torch.arange(n, device=table.device)
    return table[place[:, None] - place + n - 1]
