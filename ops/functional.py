"""Multi-scale deformable attention as functions: argument checks and choice of the implementation.

Shapes: B images, S positions of all levels (level after level, row-major), Q queries of an image, M heads, D channels
of a head, L levels, P points. Queries come as (B, Q), or packed as (T,) with the image of each, so that a pruned set
needs no padding. Level shapes are Python ints, so that no call synchronises with the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import library, reference

if "cpu" not in library.MISSING:
    from . import registration

Shapes = Sequence[tuple[int, int]]


def ms_deform_attn(
    value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor, images: Tensor | None = None
) -> Tensor:
    """Return weighted sums of bilinear samples (Deformable DETR, equation 3), as the published CUDA function does.

    Args:
        value: (B, S, M, D), float32, float16, bfloat16 or float64.
        shapes: L pairs (h, w); ``S`` is the sum of ``h * w``.
        locations: (B, Q, M, L, P, 2), (x, y) in [0, 1] of each level; outside the map zeros are read. Keep them in
            float32: 16 bits cannot hold a coordinate on a map of hundreds of pixels.
        weights: (B, Q, M, L, P), softmaxed over L * P.
        images: (T,) int, the image of each of T packed queries; then ``locations`` is (T, M, L, P, 2) and ``weights``
            (T, M, L, P). A query whose image does not exist, such as -1, gives zeros.

    Returns:
        (B, Q, M * D), or (T, M * D), in the type of ``value``.

    Raises:
        ValueError, TypeError: an argument does not fit the others; the message names it.
    """
    _check_value(value, shapes)
    _check_queries(value, shapes, images, locations=locations)
    lead = locations.shape[:-4]
    _check("weights", weights, locations.shape[:-1], value)
    if library.compiled(value, len(shapes)):
        exact = torch.float64 if value.dtype == torch.float64 else torch.float32
        out = registration.forward(
            value,
            None,
            _rows(locations, images).to(exact),
            _rows(weights, images).to(exact),
            _flat(shapes),
            _ids(images, value),
        )
        return out.view(*lead, out.shape[-1])
    if library.by_grid_sample() and images is None:
        parts = (_exact(t) for t in (locations, weights))
        return reference.by_grid_sample(_exact(value), shapes, *parts).to(value.dtype)
    locations = _exact(locations)
    return reference.sample(value, shapes, locations * _level_sizes(shapes, locations) - 0.5, weights, images)


def deformable_attention(
    value: Tensor,
    shapes: Shapes,
    reference_points: Tensor,
    offsets: Tensor,
    logits: Tensor,
    images: Tensor | None = None,
) -> Tensor:
    """Return what ``ms_deform_attn`` does, from reference points, offsets in pixels and logits.

    Args:
        value, shapes, images: as in ``ms_deform_attn``.
        reference_points: (B or 1, Q, L or 1, 2), packed (T, L or 1, 2), (x, y) in [0, 1]; or (..., 4) boxes
            (cx, cy, w, h), for which offsets are in units of half a box side divided by P.
        offsets: (B, Q, M, L, P, 2), packed (T, M, L, P, 2). They are small, so 16 bits are enough.
        logits: (B, Q, M, L * P), packed (T, M, L * P), before the softmax.
    """
    _check_value(value, shapes)
    _check_queries(value, shapes, images, offsets=offsets)
    _check_reference(reference_points, offsets, images, value)
    lead, levels, points = offsets.shape[:-4], offsets.shape[-3], offsets.shape[-2]
    _check("logits", logits, (*offsets.shape[:-3], levels * points), value)
    reference_points = _exact(reference_points)
    if reference_points.shape[-1] == 4:
        # (..., 1, L or 1, 1, 2): heads and points share the box.
        sides = reference_points[..., None, :, None, 2:]
        offsets = _exact(offsets) / points * sides * 0.5 * _level_sizes(shapes, reference_points)
        reference_points = reference_points[..., :2]
    if library.compiled(value, levels):
        kind = _raw_type(value, reference_points, offsets, logits)
        exact = torch.float64 if value.dtype == torch.float64 else torch.float32
        out = registration.forward(
            value,
            _rows(reference_points, images).to(exact),
            _rows(offsets, images).to(kind),
            _rows(logits.reshape(offsets.shape[:-1]), images).to(kind),
            _flat(shapes),
            _ids(images, value),
        )
        return out.view(*lead, out.shape[-1])
    weights = _exact(logits).softmax(dim=-1).view(offsets.shape[:-1])
    if library.by_grid_sample() and images is None:
        sizes = _level_sizes(shapes, reference_points)
        locations = reference_points[..., None, :, None, :] + _exact(offsets) / sizes
        return reference.by_grid_sample(_exact(value), shapes, locations, weights).to(value.dtype)
    # Offsets are already in pixels, so they are not divided by the level size and multiplied again.
    pixels = reference_points[..., None, :, None, :] * _level_sizes(shapes, reference_points) + _exact(offsets) - 0.5
    return reference.sample(value, shapes, pixels, weights, images)


def check_shapes(shapes: Shapes, positions: int, name: str) -> None:
    """Check that level shapes are positive and fit the number of positions of the tensor ``name``.

    Raises:
        ValueError: they do not.
    """
    if any(h < 1 or w < 1 for h, w in shapes):
        raise ValueError(f"shapes {list(shapes)} must hold positive heights and widths")
    total = sum(h * w for h, w in shapes)
    if total != positions:
        raise ValueError(
            f"shapes {list(shapes)} have {total} positions, {name} has {positions}; both must come from "
            "the same image size"
        )


def _check_value(value: Tensor, shapes: Shapes) -> None:
    if value.dim() != 4:
        raise ValueError(f"value must be (B, S, M, D), got {tuple(value.shape)}")
    if not value.is_floating_point():
        raise TypeError(f"value must be of a floating-point type, got {value.dtype}")
    check_shapes(shapes, value.shape[1], "value")


def _check_queries(value: Tensor, shapes: Shapes, images: Tensor | None, **named: Tensor) -> None:
    """Check the one tensor ``named``, which has the number of queries, and ``images``."""
    ((name, tensor),) = named.items()
    lead = ("B", "Q") if images is None else ("T",)
    form = f"({', '.join(lead)}, M, L, P, 2)"
    if tensor.dim() != len(lead) + 4 or tensor.shape[-1] != 2:
        raise ValueError(f"{name} must be {form}, got {tuple(tensor.shape)}")
    if tensor.shape[-4] != value.shape[2] or tensor.shape[-3] != len(shapes):
        raise ValueError(
            f"{name} must be {form} with the M = {value.shape[2]} heads of value and the "
            f"L = {len(shapes)} levels of shapes, got {tuple(tensor.shape)}"
        )
    _check_kind(name, tensor, value)
    if images is None:
        if tensor.shape[0] != value.shape[0]:
            raise ValueError(
                f"{name} {tuple(tensor.shape)} is of {tensor.shape[0]} images, value "
                f"{tuple(value.shape)} of {value.shape[0]}"
            )
    elif images.shape != tensor.shape[:1]:
        raise ValueError(
            f"images must be ({tensor.shape[0]},) like {name} {tuple(tensor.shape)}, got {tuple(images.shape)}"
        )
    elif images.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"images must be int32 or int64, got {images.dtype}")
    elif images.device != value.device:
        raise ValueError(f"images is on {images.device}, value on {value.device}")


def _check_reference(points: Tensor, offsets: Tensor, images: Tensor | None, value: Tensor) -> None:
    shape, wanted = tuple(points.shape), (*offsets.shape[:-4], offsets.shape[-3], 2)
    fits = (
        len(shape) == len(wanted)
        and shape[-1] in (2, 4)
        and shape[-2] in (1, wanted[-2])
        and (shape[:-2] == wanted[:-2] or (images is None and shape[:-2] == (1, wanted[1])))
    )
    if not fits:
        form = "(B or 1, Q, L or 1, 2 or 4)" if images is None else "(T, L or 1, 2 or 4)"
        raise ValueError(f"reference_points must be {form}, got {shape} for offsets {tuple(offsets.shape)}")
    _check_kind("reference_points", points, value)


def _check(name: str, tensor: Tensor, shape: Sequence[int], value: Tensor) -> None:
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} must be {tuple(shape)}, got {tuple(tensor.shape)}")
    _check_kind(name, tensor, value)


def _check_kind(name: str, tensor: Tensor, value: Tensor) -> None:
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be of a floating-point type, got {tensor.dtype}")
    if tensor.device != value.device:
        raise ValueError(f"{name} is on {tensor.device}, value on {value.device}")


def _raw_type(value: Tensor, reference_points: Tensor, offsets: Tensor, logits: Tensor) -> torch.dtype:
    """Return the type in which the kernel reads offsets and logits and writes their gradients.

    It is value's type if both have it. The gradient of reference points is a sum over that of the offsets, which then
    must not be rounded.
    """
    if offsets.dtype == logits.dtype == value.dtype and not reference_points.requires_grad:
        return value.dtype
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def _flat(shapes: Shapes) -> list[int]:
    return [side for shape in shapes for side in shape]


def _rows(t: Tensor, images: Tensor | None) -> Tensor:
    """Return one row per query: (B, Q, ...) as (B * Q, ...)."""
    return t.flatten(0, 1) if images is None else t


def _ids(images: Tensor | None, value: Tensor) -> Tensor | None:
    """Return the image indices in 32 bits; clamping first keeps an invalid index invalid."""
    return None if images is None else images.clamp(-1, value.shape[0]).int()


def _exact(t: Tensor) -> Tensor:
    """Convert to at least fp32, because 16 bits cannot hold a coordinate on a map of hundreds of pixels."""
    return t if t.dtype == torch.float64 else t.float()


def _level_sizes(shapes: Shapes, like: Tensor) -> Tensor:
    """Return (w, h) of each level, (L, 1, 2), to be broadcast against (..., L, P, 2)."""
    # Filled on the device: a copy from the host would synchronise, and a CUDA graph would record the host's address.
    return torch.stack([like.new_full((), side) for h, w in shapes for side in (w, h)]).view(-1, 1, 2)
