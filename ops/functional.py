"""Multi-scale deformable attention as functions, and the choice of the backend that computes it.

Shapes: B images, S positions of all levels (level after level, row-major), Q queries, M heads, D channels of a head,
L levels, P points. Level shapes are Python ints, so no call waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import reference

Shapes = Sequence[tuple[int, int]]
Backend = Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]

# The one place to plug in a compiled op: device type -> function with the signature of `reference.sample`.
# A device that is not listed takes plain PyTorch.
BACKENDS: dict[str, Backend] = {}


def ms_deform_attn(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples (Deformable DETR, equation 3), the form of the published CUDA function.

    Args:
        value: (B, S, M, D).
        shapes: L pairs (h, w); ``S`` is the sum of ``h * w``.
        locations: (B, Q, M, L, P, 2), (x, y) in [0, 1] of each level; outside reads zeros.
        weights: (B, Q, M, L, P), softmaxed over L * P.

    Returns:
        (B, Q, M * D) in the type of ``value``.

    Raises:
        ValueError: the shapes do not fit together.
    """
    check_shapes(value, shapes)
    locations = _exact(locations)
    return _sample(value, shapes, locations * _level_sizes(shapes, locations) - 0.5, weights)


def deformable_attention(value: Tensor, shapes: Shapes, reference_points: Tensor, offsets: Tensor,
                         logits: Tensor) -> Tensor:
    """The same from reference points, raw offsets in pixels and raw logits, as the module has them.

    Args:
        value: (B, S, M, D).
        reference_points: (B or 1, Q, L or 1, 2), (x, y) in [0, 1]; or (..., 4) boxes (cx, cy, w, h), in which offsets
            are counted in half box sides divided by P.
        offsets: (B, Q, M, L, P, 2).
        logits: (B, Q, M, L * P).
    """
    check_shapes(value, shapes)
    weights = _exact(logits).softmax(dim=-1).view(offsets.shape[:-1])
    points, offsets = _exact(reference_points)[:, :, None, :, None], _exact(offsets)
    sizes = _level_sizes(shapes, points)
    if points.shape[-1] == 4:
        pixels = (points[..., :2] + offsets / offsets.shape[-2] * points[..., 2:] * 0.5) * sizes - 0.5
    else:
        # Offsets are in pixels already: no division by the level size and back.
        pixels = points * sizes + offsets - 0.5
    return _sample(value, shapes, pixels, weights)


def check_shapes(value: Tensor, shapes: Shapes) -> None:
    """Raises ValueError unless the level shapes cover ``value``."""
    if sum(h * w for h, w in shapes) != value.shape[1]:
        raise ValueError(f"level shapes {list(shapes)} have {sum(h * w for h, w in shapes)} positions, "
                         f"the value tensor has {value.shape[1]}; both must come from the same image size")


def _sample(value: Tensor, shapes: Shapes, pixels: Tensor, weights: Tensor) -> Tensor:
    return BACKENDS.get(value.device.type, reference.sample)(value, shapes, pixels, weights)


def _exact(t: Tensor) -> Tensor:
    """At least fp32: 16 bits cannot hold a coordinate on a map of hundreds of pixels."""
    return t if t.dtype == torch.float64 else t.float()


def _level_sizes(shapes: Shapes, like: Tensor) -> Tensor:
    """(L, 1, 2) (w, h) of each level, to be broadcast against (..., L, P, 2)."""
    return torch.tensor([(w, h) for h, w in shapes], dtype=like.dtype).to(like.device, non_blocking=True)[:, None]
