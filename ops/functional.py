"""Multi-scale deformable attention as functions: what a call must look like, and which path computes it.

Shapes: B images, S positions of all levels (level after level, row-major), Q queries of an image, M heads, D channels
of a head, L levels, P points. Queries come as (B, Q), or packed as (T,) with the image of each: then a pruned set needs
no padding. Level shapes are Python ints, so no call waits for the device.
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
    """Weighted sum of bilinear samples (Deformable DETR, equation 3), the form of the published CUDA function.

    Args:
        value: (B, S, M, D), float32, float16, bfloat16 or float64.
        shapes: L pairs (h, w); ``S`` is the sum of ``h * w``.
        locations: (B, Q, M, L, P, 2), (x, y) in [0, 1] of each level; outside reads zeros. Keep them in float32: 16
            bits cannot hold a coordinate on a map of hundreds of pixels.
        weights: (B, Q, M, L, P), softmaxed over L * P.
        images: (T,) int, the image of each of T packed queries; then ``locations`` is (T, M, L, P, 2) and ``weights``
            (T, M, L, P). A query of an image that does not exist, -1 say, gives zeros.

    Returns:
        (B, Q, M * D), or (T, M * D), in the type of ``value``.

    Raises:
        ValueError, TypeError: the arguments do not fit together; names the one that does not.
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
    """The same from reference points, raw offsets in pixels and raw logits, as the module has them.

    Args:
        value, shapes, images: as in ``ms_deform_attn``.
        reference_points: (B or 1, Q, L or 1, 2), packed (T, L or 1, 2), (x, y) in [0, 1]; or (..., 4) boxes
            (cx, cy, w, h), in which offsets are counted in half box sides divided by P.
        offsets: (B, Q, M, L, P, 2), packed (T, M, L, P, 2). Small numbers, so 16 bits are enough.
        logits: (B, Q, M, L * P), packed (T, M, L * P); softmaxed here.
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
    # Offsets are in pixels already: no division by the level size and back.
    pixels = reference_points[..., None, :, None, :] * _level_sizes(shapes, reference_points) + _exact(offsets) - 0.5
    return reference.sample(value, shapes, pixels, weights, images)


def check_shapes(shapes: Shapes, positions: int, name: str) -> None:
    """Raises ValueError unless the levels are positive and have as many positions as the tensor ``name``."""
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
    """``named`` is the one tensor that tells the number of queries."""
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
    """The one type in which the kernel reads offsets and logits and writes their gradients: value's if both have it.

    Reference points that learn get theirs as a sum over the offsets', which then must not be rounded first.
    """
    if offsets.dtype == logits.dtype == value.dtype and not reference_points.requires_grad:
        return value.dtype
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def _flat(shapes: Shapes) -> list[int]:
    return [side for shape in shapes for side in shape]


def _rows(t: Tensor, images: Tensor | None) -> Tensor:
    """One row per query: (B, Q, ...) as (B * Q, ...)."""
    return t.flatten(0, 1) if images is None else t


def _ids(images: Tensor | None, value: Tensor) -> Tensor | None:
    """In 32 bits, none of which may turn an image that does not exist into one that does."""
    return None if images is None else images.clamp(-1, value.shape[0]).int()


def _exact(t: Tensor) -> Tensor:
    """At least fp32: 16 bits cannot hold a coordinate on a map of hundreds of pixels."""
    return t if t.dtype == torch.float64 else t.float()


def _level_sizes(shapes: Shapes, like: Tensor) -> Tensor:
    """(L, 1, 2) (w, h) of each level, to be broadcast against (..., L, P, 2)."""
    # Filled on the device: a copy from the host would stop it, and a CUDA graph would remember the host's address.
    return torch.stack([like.new_full((), side) for h, w in shapes for side in (w, h)]).view(-1, 1, 2)
