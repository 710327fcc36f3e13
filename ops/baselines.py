"""What else computes deformable attention: the form by ``grid_sample`` that most projects use on CPU, and MMCV's CUDA
operator. To compare with, in tests and in ``tools/benchmarks/deformable_attention.py``; nothing here runs in a model.

Shapes: B images, S positions of all levels, Q queries, M heads, D channels of a head, L levels, P points.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .functional import Shapes


def by_grid_sample(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Arguments and result of ``ms_deform_attn``, batched form. Exact in float32 and float64 only: on CPU, grid_sample
    in 16 bit computes coordinates and memory offsets in 16 bit."""
    batch, _, heads, dim = value.shape
    out, start = 0, 0
    for level, (h, w) in enumerate(shapes):
        plane = value[:, start : start + h * w].permute(0, 2, 3, 1).reshape(batch * heads, dim, h, w)
        grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        found = F.grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        out = out + (found * weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]).sum(-1)
        start += h * w
    return out.view(batch, heads * dim, -1).transpose(1, 2)


def mmcv_operator() -> Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]:
    """MMCV's CUDA operator with the arguments of ``ms_deform_attn``.

    Raises:
        ImportError: there is no MMCV with compiled operators.
    """
    from mmcv import _ext
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    if not getattr(_ext, "__file__", None):  # a stand-in
        raise ImportError("this MMCV has no compiled operators")

    @cache  # made once, as a careful user would: not on the clock
    def levels(shapes: tuple, device: torch.device) -> tuple[Tensor, Tensor]:
        sizes = torch.tensor(shapes, device=device)
        return sizes, torch.cat([sizes.new_zeros(1), sizes.prod(1).cumsum(0)[:-1]])

    def call(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        sizes, starts = levels(tuple(shapes), value.device)
        return MultiScaleDeformableAttnFunction.apply(value, sizes, starts, locations, weights, 64)

    return call


@cache
def _sizes(shapes: tuple, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor([(w, h) for h, w in shapes], device=device, dtype=dtype)[:, None]


def from_raw(
    function: Callable, value: Tensor, shapes: Shapes, reference_points: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    """The arguments of ``deformable_attention`` (points, not boxes) for a function that takes locations and weights."""
    locations = reference_points[:, :, None, :, None] + offsets / _sizes(tuple(shapes), offsets.device, offsets.dtype)
    return function(value, shapes, locations, logits.softmax(-1).view(locations.shape[:-1]))
