"""Windows of the grid whose tokens resemble each other, to be merged into one.

"ALGM: Adaptive Local-then-Global Token Merging for Efficient Semantic Segmentation with Plain Vision Transformers",
Norouzi et al., CVPR 2024, section 3.2.

Shapes: B images, P prefix tokens, H x W grid, N = P + H * W positions, W whole windows of k positions, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .similarity import unit


def window_members(grid: tuple[int, int], window: tuple[int, int], device: torch.device) -> Tensor:
    """Return the grid positions in each whole window, (W, k) int64, row-major in both.

    Positions at the right and bottom border that fill no window are in none.
    """
    down, across = grid[0] // window[0], grid[1] // window[1]
    places = torch.arange(grid[0] * grid[1], device=device).view(grid)
    places = places[: down * window[0], : across * window[1]]
    return places.view(down, window[0], across, window[1]).transpose(1, 2).reshape(-1, window[0] * window[1])


@torch.no_grad()
def window_similarity(metric: Tensor, members: Tensor) -> Tensor:
    """Return the mean cosine over all pairs of different positions of a window, (B, W).

    Args:
        metric: (B, H * W, C).
        members: (W, k) of ``window_members``, k at least 2.
    """
    tokens, k = unit(metric), members.shape[1]
    total = tokens.new_zeros(tokens.shape[0], members.shape[0], tokens.shape[2])
    for column in members.T:
        total += tokens[:, column]
    # The sum over pairs is the squared sum without the squares.
    squares = tokens.square().sum(2)[:, members].sum(2)
    return (total.square().sum(2) - squares) / (k * (k - 1))
