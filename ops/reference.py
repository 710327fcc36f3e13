"""Deformable attention in plain PyTorch: each query and head is a bag of weighted rows of the value table.

On CPU ``embedding_bag`` is faster than ``grid_sample``, which in 16 bit computes coordinates and memory offsets in 16
bit and reads wrong memory (torch 2.11). Everything but the value and the result is fp32 (fp64 for an fp64 value, for
gradient checks).

Shapes: B images, S positions of all levels, Q queries of an image (or T of all, packed), M heads, D channels of a head,
L levels, P points.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def sample(
    value: Tensor, shapes: Sequence[tuple[int, int]], pixels: Tensor, weights: Tensor, images: Tensor | None = None
) -> Tensor:
    """Return weighted sums of bilinear samples, zero outside the map or where a coordinate is NaN.

    Args:
        value: (B, S, M, D).
        shapes: L pairs (h, w).
        pixels: (B, Q, M, L, P, 2), (x, y) in pixels of each level; pixel centres are integers.
        weights: (B, Q, M, L, P).
        images: (T,), the image of each query, which makes ``pixels`` (T, M, L, P, 2) and ``weights`` (T, M, L, P); a
            query whose image does not exist gives zeros.

    Returns:
        (B, Q, M * D), or (T, M * D), in the type of ``value``.
    """
    batch, positions, heads, dim = value.shape
    lead = pixels.shape[:-4]
    if not value.numel() or not weights.numel():  # nothing to read, but every argument has a gradient: zeros
        nothing = sum(t.flatten()[:0].sum() for t in (value, pixels, weights))
        return value.new_zeros(*lead, heads * dim) + torch.as_tensor(nothing).to(value)
    if images is None:
        images = torch.arange(batch, device=value.device)[:, None].expand(lead)
    else:
        known = (images >= 0) & (images < batch)
        images, pixels = images.where(known, 0), pixels.where(known[:, None, None, None, None], torch.nan)
    # The table ends with a row of zeros, which stands for all that is not read: NaN in a real row would survive a
    # factor of 0.
    table = F.pad(value.reshape(-1, dim), (0, 0, 0, 1))
    # Row of (image, position 0, head) in the table; positions are `heads` rows apart.
    base = ((images[..., None] * positions * heads) + torch.arange(heads, device=value.device))[..., None]
    corner_rows, corner_factors, start = [], [], 0
    for level, (height, width) in enumerate(shapes):
        for position, factor, valid in _corners(pixels[..., level, :, :], height, width):
            corner_rows.append((base + (start + position) * heads).where(valid, len(table) - 1))
            corner_factors.append(factor * weights[..., level, :].where(valid, 0))
        start += height * width
    rows = torch.cat(corner_rows, dim=-1).flatten(0, -2)
    factors = torch.cat(corner_factors, dim=-1).flatten(0, -2)
    # Sums in fp32 or fp64, forward and backward.
    out = F.embedding_bag(rows, table.to(factors.dtype), mode="sum", per_sample_weights=factors)
    return out.view(*lead, heads * dim).to(value.dtype)


def by_grid_sample(value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """Compute ``ms_deform_attn`` of batched queries by ``grid_sample``.

    It is exact in float32 and float64 only: in 16 bit, ``grid_sample`` on CPU computes coordinates and memory offsets
    in 16 bit.
    """
    batch, _, heads, dim = value.shape
    queries = locations.shape[1]
    # Points before queries: sums over a short last axis are slow in every runtime.
    grids = (2 * locations - 1).permute(3, 0, 2, 4, 1, 5).flatten(1, 2)  # (L, B * M, P, Q, 2)
    factors = weights.permute(3, 0, 2, 4, 1).flatten(1, 2)
    out, start = value.new_zeros(()), 0
    for (h, w), grid, factor in zip(shapes, grids.unbind(0), factors.unbind(0), strict=True):
        plane = value[:, start : start + h * w].permute(0, 2, 3, 1).reshape(batch * heads, dim, h, w)
        samples = F.grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        for sampled, weight in zip(samples.unbind(2), factor.unbind(1), strict=True):
            out = out + sampled * weight[:, None]
        start += h * w
    return out.view(batch, heads * dim, queries).transpose(1, 2)


def _corners(pixels: Tensor, height: int, width: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return position in the level (int64), factor and validity of the four neighbours of points (..., 2).

    A neighbour outside the map is not valid, and its position means nothing; nor is any neighbour of a NaN.
    """
    x, y = pixels.unbind(-1)
    inside = (x > -1) & (x < width) & (y > -1) & (y < height)  # False for NaN
    x, y = x.where(inside, 0), y.where(inside, 0)
    left, top = x.detach().floor(), y.detach().floor()
    right_part, lower_part = x - left, y - top
    corners = []
    for down, factor_y in ((0, 1 - lower_part), (1, lower_part)):
        for across, factor_x in ((0, 1 - right_part), (1, right_part)):
            column, row = left + across, top + down
            valid = inside & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            corners.append(((row * width + column).long(), factor_x * factor_y, valid))
    return corners
