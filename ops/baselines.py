"""Other implementations of deformable attention, for comparison in tests and benchmarks only.

MMCV's CUDA operator, and how the raw inputs of a layer reach any of them; the form by ``grid_sample`` is in
``reference.py``. The benchmark is ``tools/benchmarks/deformable_attention.py``.

Shapes: B images, S positions of all levels, Q queries, M heads, D channels of a head, L levels, P points.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

import torch
from torch import Tensor

from .functional import Shapes


def mmcv_operator() -> Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]:
    """Return MMCV's CUDA operator as a function with the arguments of ``ms_deform_attn``.

    Raises:
        ImportError: MMCV or its compiled operators are missing.
    """
    from mmcv import _ext
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    if not getattr(_ext, "__file__", None):  # a stub of mmcv_custom.compat
        raise ImportError("this MMCV has no compiled operators")

    @cache  # computed once, so that it is not part of the measured time
    def levels(shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
        sizes = torch.tensor(shapes, device=device)
        return sizes, torch.cat([sizes.new_zeros(1), sizes.prod(1).cumsum(0)[:-1]])

    def call(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        sizes, starts = levels(tuple(shapes), value.device)
        return MultiScaleDeformableAttnFunction.apply(value, sizes, starts, locations, weights, 64)

    return call


@lru_cache
def _sizes(shapes: Shapes, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor([(w, h) for h, w in shapes], device=device, dtype=dtype)[:, None]


def from_raw(
    function: Callable, value: Tensor, shapes: Shapes, reference_points: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    """Call ``function``, which takes locations and weights, with arguments of ``deformable_attention`` (no boxes)."""
    locations = reference_points[:, :, None, :, None] + offsets / _sizes(tuple(shapes), offsets.device, offsets.dtype)
    return function(value, shapes, locations, logits.softmax(-1).view(locations.shape[:-1]))
