"""Registration of the compiled operators: fake kernels for tracing, gradient formula, FLOP formulas.

It is imported only if the library that defines the operators is loaded.

Shapes as in src/msda.h: value (B, S, M, D), points (T, M, L, P, 2), weights (T, M, L, P), reference (T or a divisor of
it, 1 or L, 2), out (T, M * D).
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Size, Tensor
from torch.utils.flop_counter import register_flop_formula

NAME = "token_pruning::ms_deform_attn"
forward = torch.ops.token_pruning.ms_deform_attn
backward = torch.ops.token_pruning.ms_deform_attn_backward


@torch.library.register_fake(NAME)
def _fake_forward(
    value: Tensor, reference: Tensor | None, points: Tensor, weights: Tensor, shapes: list[int], images: Tensor | None
) -> Tensor:
    return value.new_empty(points.shape[0], value.shape[2] * value.shape[3])


@torch.library.register_fake(f"{NAME}_backward")
def _fake_backward(
    grad: Tensor,
    value: Tensor,
    reference: Tensor | None,
    points: Tensor,
    weights: Tensor,
    shapes: list[int],
    images: Tensor | None,
    bound: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    return value.new_empty(value.shape), points.new_empty(points.shape), weights.new_empty(weights.shape)


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    value, reference, points, weights, shapes, images = inputs
    ctx.save_for_backward(value, reference, points, weights, images)
    ctx.shapes = shapes


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    value, reference, points, weights, images = ctx.saved_tensors
    bound = None
    if grad.is_cuda and grad.numel() and torch.are_deterministic_algorithms_enabled():
        bound = grad.abs().amax().float()
        if reference is None and weights.numel():  # otherwise the softmax bounds them by 1
            bound = bound * weights.abs().amax()
    grad_value, grad_points, grad_weights = backward(grad, value, reference, points, weights, ctx.shapes, images, bound)
    grad_reference = None
    if ctx.needs_input_grad[1]:
        grad_reference = _reference_gradient(reference, grad_points, ctx.shapes)
    return grad_value, grad_reference, grad_points, grad_weights, None, None


def _reference_gradient(reference: Tensor, grad_points: Tensor, shapes: list[int]) -> Tensor:
    """Sum the samples' gradients over heads and points, scaled by the level's size in pixels."""
    moved = grad_points.to(reference.dtype).sum(dim=(1, 3))  # (T, L, 2)
    moved = torch.stack(
        [
            torch.stack([moved[:, i, 0] * w, moved[:, i, 1] * h], dim=-1)
            for i, (h, w) in enumerate(zip(shapes[::2], shapes[1::2], strict=True))
        ],
        dim=1,
    )
    if reference.shape[1] == 1:
        moved = moved.sum(dim=1, keepdim=True)
    rows = reference.shape[0]
    return moved.view(-1, rows, *moved.shape[1:]).sum(0) if rows else moved


def _refuse(ctx: Any, *grads: Tensor) -> NoReturn:
    raise RuntimeError(
        "deformable attention has no second derivative; compute it within token_pruning_ops.plain() if you need one"
    )


torch.library.register_autograd(NAME, _gradient, setup_context=_save)
torch.library.register_autograd(f"{NAME}_backward", _refuse)


@register_flop_formula(forward)
def _forward_flops(
    value_shape: Size, reference_shape: Size | None, points_shape: Size, *args: Any, **kwargs: Any
) -> int:
    """Count four corners per sample and one multiply-add (2 FLOPs) per channel.

    Coordinates and softmax are elementwise and not counted.
    """
    queries, heads, levels, points = points_shape[:4]
    return 2 * 4 * queries * heads * levels * points * value_shape[3]


@register_flop_formula(backward)
def _backward_flops(
    grad_shape: Size, value_shape: Size, reference_shape: Size | None, points_shape: Size, *args: Any, **kwargs: Any
) -> int:
    """Count two multiply-adds per corner and channel: the product with the gradient, and the gradient of value."""
    return 2 * _forward_flops(value_shape, reference_shape, points_shape)
