"""Resampling of learned position tables from a file's grid to a model's.

Shapes: tables (1, class rows + h * w, C), the class rows first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from token_pruning.positions import resize_positions


def noted_grid(state: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Return the grid (h, w) of a file's position table from the metadata of its state dict.

    Native state dicts have it (``token_pruning.vit``). None for others; their tables are taken for squares, n^2 rows
    besides the class rows.
    """
    notes = (getattr(state, "_metadata", None) or {}).values()
    return next((tuple(note["table_grid"]) for note in notes if "table_grid" in note), None)


def grid_of(model: nn.Module, name: str) -> tuple[int, int] | None:
    """Return the grid (h, w) of the model's position table ``name``; None if its module does not know it."""
    module = model.get_submodule(name.rpartition(".")[0])
    return getattr(module, "table_grid", None) or getattr(getattr(module, "patch_embed", None), "grid_size", None)


def fit_pos_embed(
    table: Tensor, like: Tensor, grid: tuple[int, int] | None = None, given_grid: tuple[int, int] | None = None
) -> Tensor | None:
    """Resample a file's position table to the model's; None if that is impossible.

    A table with the model's number of rows is resampled only if its grid is known, or can be taken for a square, and
    differs from the model's. A distillation row that the model lacks is dropped; a class row that the file lacks keeps
    the model's value.

    Args:
        table: the file's table.
        like: the model's table.
        grid: (h, w) of the model's table; None for a square.
        given_grid: (h, w) of the file's table; None for a square.
    """
    if table.ndim != 3 or like.ndim != 3 or table.shape[-1] != like.shape[-1]:
        return None
    if table.shape == like.shape:
        given_grid = given_grid or grid and _square(grid[0] * grid[1])
        if not grid or given_grid in (None, tuple(grid)):
            return table
    given, wanted = class_rows(table.shape[1], given_grid), class_rows(like.shape[1], grid)
    if given is None or wanted is None:
        return None
    grid = grid or _square(like.shape[1] - wanted)
    patches = resize_pos_embed(table, grid, given, given_grid)[:, given:]
    kept = min(given, wanted)
    return torch.cat([table[:, :kept], like[:, kept:wanted].to(table), patches], dim=1)


def resize_pos_embed(
    table: Tensor, to_grid: Sequence[int], prefix: int = 1, grid: Sequence[int] | None = None
) -> Tensor:
    """Resample a learned position table to another grid: bicubic, align_corners False, no antialias.

    Args:
        table: the table. The result has its dtype and its class rows.
        to_grid: (h, w) of the result.
        prefix: number of class rows.
        grid: (h, w) of ``table``; None for a square.

    Raises:
        ValueError: the rows besides the class rows are not that grid.
    """
    rows = table.shape[1] - prefix
    what, grid = (f"{grid[0]} x {grid[1]}", tuple(grid)) if grid else ("square", _square(rows))
    if grid is None or grid[0] * grid[1] != rows:
        raise ValueError(f"a position table of {table.shape[1]} rows minus {prefix} class rows is not a {what} grid")
    if grid == tuple(to_grid):
        return table
    patches = resize_positions(table[:, prefix:].float(), grid, to_grid).to(table.dtype)
    return torch.cat([table[:, :prefix], patches], dim=1)


def class_rows(rows: int, grid: Sequence[int] | None = None) -> int | None:
    """Return how many of ``rows`` are class rows: 0, 1, or 2 with distillation.

    The other rows are ``grid``; without it they must be a square, else the result is None.
    """
    if grid:
        return rows - grid[0] * grid[1]
    return next((prefix for prefix in (1, 2, 0) if _square(rows - prefix)), None)


def _square(rows: int) -> tuple[int, int] | None:
    side = math.isqrt(max(rows, 0))
    return (side, side) if rows > 0 and side * side == rows else None
