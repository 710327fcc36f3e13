"""Reference points and level shapes of ViT-Adapter's deformable attention.

Shapes: H x W grid of stride 16, N = H * W.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor


class Geometry(NamedTuple):
    """Reference points of the queries and level shapes of the values, for one image size.

    Attributes:
        injector_points: (1, N, 1, 2), centres of the stride-16 cells as (x, y) in [0, 1].
        injector_shapes: (h, w) of the strides 8, 16, 32 that the injector samples.
        extractor_points: (1, 21 N / 4, 1, 2), centres of the cells of strides 8, 16, 32.
        extractor_shapes: (h, w) of stride 16 that the extractor samples.
    """

    injector_points: Tensor
    injector_shapes: list[tuple[int, int]]
    extractor_points: Tensor
    extractor_shapes: list[tuple[int, int]]


def adapter_geometry(grid: tuple[int, int], device: torch.device) -> Geometry:
    """Return the geometry of ``grid``, the even (H, W) of stride 16; computed once per size and device."""
    # A graph owns its tensors: those made while it is recorded hold no numbers.
    return _make(grid, device) if torch.compiler.is_compiling() else _cached(grid, device)


# Unbounded, because a captured CUDA graph reads these small tensors as long as it exists.
@cache
def _cached(grid: tuple[int, int], device: torch.device) -> Geometry:
    return _make(grid, device)


def _make(grid: tuple[int, int], device: torch.device) -> Geometry:
    rows, cols = grid
    shapes = [(rows * 2, cols * 2), (rows, cols), (rows // 2, cols // 2)]
    # A tensor created in inference mode cannot be used in training later.
    with torch.inference_mode(False):
        centres = [_cell_centres(shape, device) for shape in shapes]
        return Geometry(centres[1], shapes, torch.cat(centres, dim=1), [grid])


def _cell_centres(shape: tuple[int, int], device: torch.device) -> Tensor:
    rows, cols = shape
    y = (torch.arange(rows, device=device, dtype=torch.float32) + 0.5) / rows
    x = (torch.arange(cols, device=device, dtype=torch.float32) + 0.5) / cols
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x, y], dim=-1).view(1, -1, 1, 2)
