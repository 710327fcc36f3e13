"""Entropy of the grey values of square parts of an image, and the patch size that it suggests for each position.

"Accelerating Vision Transformers with Adaptive Patch Sizes", 2025, section 3.1.

Shapes: B images, h x w pixels, H x W grid of the smallest patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BINS = 512
MAX_ENTROPY = 9.0  # bits of BINS equally frequent values
GREY = (0.2989, 0.5870, 0.1140)


def to_grey(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return the 8-bit grey picture (B, h, w), in 0..255, of a normalized ``image`` (B, 3, h, w).

    Args:
        mean, std: of the normalization, in 0..255. Pixels that it leaves no numbers of are black.
    """
    channels = zip(image.float().unbind(1), mean, std, GREY, strict=True)
    return sum(weight * (c * s + m).nan_to_num().round().clamp(0, 255) for c, m, s, weight in channels)  # type: ignore[return-value]


def entropy(grey: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the entropy in bits of every whole part of ``size`` pixels of ``grey`` (B, h, w), (B, h // s, w // t)."""
    batch, rows, cols = len(grey), grey.shape[1] // size[0], grey.shape[2] // size[1]
    bins = (grey * (BINS / 255)).long().clamp(max=BINS - 1)[:, : rows * size[0], : cols * size[1]]
    bins = bins.view(batch, rows, size[0], cols, size[1]).transpose(2, 3).reshape(batch * rows * cols, -1)
    counts = torch.zeros(len(bins), BINS, device=grey.device)
    share = counts.scatter_add(1, bins, torch.ones_like(bins, dtype=counts.dtype)) / (size[0] * size[1])
    return -(share * (share + 1e-10).log2()).sum(1).view(batch, rows, cols)


def patch_scales(grey: Tensor, patch: tuple[int, int], grid: tuple[int, int], thresholds: Sequence[float]) -> Tensor:
    """Return the scale of the patch that covers each position of the grid, (B, H, W) int64: 0 for the smallest.

    A patch of scale i has 2^i times the side of the smallest. It is taken where its entropy is below ``thresholds[i -
    1]`` and no larger one was taken. Where the image does not hold a whole one, its parts are smaller.
    """
    scales = torch.zeros(len(grey), *grid, dtype=torch.int64, device=grey.device)
    for i in range(len(thresholds), 0, -1):
        side = 2**i
        if min(grid) < side:
            continue
        flat = entropy(grey, (patch[0] * side, patch[1] * side)) < thresholds[i - 1]
        flat = flat.repeat_interleave(side, 1).repeat_interleave(side, 2)
        here = scales[:, : flat.shape[1], : flat.shape[2]]
        here.masked_fill_(flat & (here == 0), i)
    return scales
