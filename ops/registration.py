"""What the dispatcher must know about the compiled operators beyond their kernels: fake kernels for tracing, the
gradient formula, FLOP formulas. Imported only where the library that defines the operators is loaded.

Shapes as in src/msda.h: value (B, S, M, D), points (T, M, L, P, 2), weights (T, M, L, P), reference (T or a divisor of
it, 1 or L, 2), out (T, M * D).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

NAME = "token_pruning::ms_deform_attn"
forward = torch.ops.token_pruning.ms_deform_attn
backward = torch.ops.token_pruning.ms_deform_attn_backward


@torch.library.register_fake(NAME)
def _fake_forward(value, reference, points, weights, shapes, images):
    return value.new_empty(points.shape[0], value.shape[2] * value.shape[3])


@torch.library.register_fake(f"{NAME}_backward")
def _fake_backward(grad, value, reference, points, weights, shapes, images, bound):
    return value.new_empty(value.shape), points.new_empty(points.shape), weights.new_empty(weights.shape)


def _keep(ctx, inputs, output) -> None:
    value, reference, points, weights, shapes, images = inputs
    ctx.save_for_backward(value, reference, points, weights, images)
    ctx.shapes = shapes


def _gradient(ctx, grad):
    value, reference, points, weights, images = ctx.saved_tensors
    bound = None
    if grad.is_cuda and grad.numel() and torch.are_deterministic_algorithms_enabled():
        bound = grad.abs().amax().float()
        if reference is None and weights.numel():  # else they are softmaxed to at most 1
            bound = bound * weights.abs().amax()
    grad_value, grad_points, grad_weights = backward(grad, value, reference, points, weights, ctx.shapes, images, bound)
    grad_reference = None
    if ctx.needs_input_grad[1]:
        grad_reference = _reference_gradient(reference, grad_points, ctx.shapes)
    return grad_value, grad_reference, grad_points, grad_weights, None, None


def _reference_gradient(reference: Tensor, grad_points: Tensor, shapes) -> Tensor:
    """A reference point moves the samples of all heads and points by its level's size in pixels."""
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


def _refuse(ctx, *grads):
    raise RuntimeError(
        "deformable attention has no second derivative; compute it within token_pruning_ops.plain() if you need one"
    )


torch.library.register_autograd(NAME, _gradient, setup_context=_keep)
torch.library.register_autograd(f"{NAME}_backward", _refuse)


@register_flop_formula(forward)
def _forward_flops(value_shape, reference_shape, points_shape, *args, out_shape=None, **kwargs) -> int:
    """Four corners a sample, a multiply-add (2) a channel; coordinates and softmax are not counted, like all else that
    is elementwise."""
    queries, heads, levels, points = points_shape[:4]
    return 2 * 4 * queries * heads * levels * points * value_shape[3]


@register_flop_formula(backward)
def _backward_flops(grad_shape, value_shape, reference_shape, points_shape, *args, out_shape=None, **kwargs) -> int:
    """Each corner's row is multiplied by the gradient, and added to its own gradient."""
    return 2 * _forward_flops(value_shape, reference_shape, points_shape)
