"""Position tables of files on the grids of models.

Shapes: tables (1, class rows + h * w, C), the class rows first.
"""

import math

import torch

from token_pruning.vit import resize_positions


def noted_grid(state):
    """(h, w) of a file's table, which the house's state dicts have beside their tensors (``token_pruning.vit``); None
    for all others, whose tables of n^2 rows besides the class rows are taken for squares."""
    notes = (getattr(state, "_metadata", None) or {}).values()
    return next((tuple(note["table_grid"]) for note in notes if "table_grid" in note), None)


def grid_of(model, name):
    """(h, w) of the model's table ``name``, or None where its module does not say."""
    owner = model.get_submodule(name.rpartition(".")[0])
    return getattr(owner, "table_grid", None) or getattr(getattr(owner, "patch_embed", None), "grid_size", None)


def fit_pos_embed(table, like, grid=None, given_grid=None):
    """``table`` of a file made to fit the model's table ``like``; None where it cannot be.

    ``grid``, ``given_grid``: (h, w) of the model's and of the file's; None for a square. A table with the model's
    number of rows is only resampled if its grid is known, or can be taken for a square, and is not the model's. A
    distillation row the model lacks is dropped; a class row the file lacks keeps the model's value.
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


def resize_pos_embed(table, to_grid, prefix=1, grid=None):
    """Resample a learned position table to another grid: bicubic, align_corners False, no antialias.

    ``prefix``: class rows. ``grid``, ``to_grid``: (h, w) before, None for a square, and after. Returns a table of the
    same dtype with the class rows unchanged. Raises ValueError when the other rows are not that grid.
    """
    rows = table.shape[1] - prefix
    what, grid = (f"{grid[0]} x {grid[1]}", tuple(grid)) if grid else ("square", _square(rows))
    if grid is None or grid[0] * grid[1] != rows:
        raise ValueError(f"a position table of {table.shape[1]} rows minus {prefix} class rows is not a {what} grid")
    if grid == tuple(to_grid):
        return table
    patches = resize_positions(table[:, prefix:].float(), grid, to_grid).to(table.dtype)
    return torch.cat([table[:, :prefix], patches], dim=1)


def class_rows(rows, grid=None):
    """How many of ``rows`` are class rows (0, 1 or 2 with distillation), the rest being ``grid``, or a square; else
    None."""
    if grid:
        return rows - grid[0] * grid[1]
    return next((prefix for prefix in (1, 2, 0) if _square(rows - prefix)), None)


def _square(rows):
    side = math.isqrt(max(rows, 0))
    return (side, side) if rows > 0 and side * side == rows else None
