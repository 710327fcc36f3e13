"""Focal and dice loss of masks at full resolution, which is where a step of an attention-to-mask head would spend most
of its time and memory: one pass over blocks of masks that stay in the cache, gradients by formula, nothing kept but the
logits.

Shapes: M masks of h x w pixels, B label maps.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

ALPHA = 0.25  # of the focal loss: weight of a mask's pixels; the others have 1 - ALPHA. Gamma is 2.
BLOCK = {"cpu": 2**17}  # pixels at a time: what fits into a core's cache
LARGE_BLOCK = 2**25  # elsewhere kernels are long, and memory is all that a block saves


def mask_losses(
    logits: Tensor, labels: Tensor, image: Tensor, wanted: Tensor, ignore: int | None = None
) -> tuple[Tensor, Tensor]:
    """Of each mask the mean over its pixels of the sigmoid focal loss (Lin et al., ICCV 2017, equation 5), and the dice
    loss with 1 added above and below.

    Args:
        logits: (M, h, w).
        labels: (B, h, w) int64.
        image: (M,) which label map a mask is compared with.
        wanted: (M,) the label of its pixels.
        ignore: pixels of this label are left out; None: they are none of the mask's, like all others.

    Returns:
        (M,) focal and (M,) dice.
    """
    return MaskLosses.apply(logits, labels, image, wanted, ignore)


class MaskLosses(Function):
    """With z the logit where a pixel should not be in the mask and minus the logit where it should, q = sigmoid(z) is
    how wrong it is: the focal loss is w q^2 softplus(z), and its derivative w q^2 (2 (1 - q) softplus(z) + q)."""

    @staticmethod
    def forward(
        ctx, logits: Tensor, labels: Tensor, image: Tensor, wanted: Tensor, ignore: int | None
    ) -> tuple[Tensor, Tensor]:
        focal, overlap, predicted, present, pixels = logits.new_empty(5, len(logits))
        for rows, inside, valid in _blocks(logits, labels, image, wanted, ignore):
            z, q, weight = _wrongness(logits[rows], inside)
            loss = weight * q * q * F.softplus(z)
            p = torch.where(inside, 1 - q, q)
            if valid is not None:
                loss, p = loss * valid, p * valid
            pixels[rows] = logits.shape[1:].numel() if valid is None else valid.flatten(1).sum(1).clamp(min=1)
            focal[rows] = loss.flatten(1).sum(1) / pixels[rows]
            overlap[rows] = (p * inside).flatten(1).sum(1)
            predicted[rows], present[rows] = p.flatten(1).sum(1), inside.flatten(1).sum(1)
        ctx.save_for_backward(logits, labels, image, wanted, pixels, overlap, predicted + present + 1)
        ctx.ignore = ignore
        return focal, 1 - (2 * overlap + 1) / (predicted + present + 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, focal: Tensor, dice: Tensor):
        logits, labels, image, wanted, pixels, overlap, total = ctx.saved_tensors
        focal, everywhere, inside_only = (
            (t[:, None, None]) for t in (focal / pixels, dice * (2 * overlap + 1) / total**2, dice * 2 / total)
        )
        gradient = torch.empty_like(logits)
        for rows, inside, valid in _blocks(logits, labels, image, wanted, ctx.ignore):
            z, q, weight = _wrongness(logits[rows], inside)
            by_z = focal[rows] * weight * q * q * (2 * (1 - q) * F.softplus(z) + q)
            by_p = everywhere[rows] - inside_only[rows] * inside
            block = torch.where(inside, -by_z, by_z) + by_p * q * (1 - q)
            gradient[rows] = block if valid is None else block * valid
        return gradient, None, None, None, None


def _blocks(
    logits: Tensor, labels: Tensor, image: Tensor, wanted: Tensor, ignore: int | None
) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
    """Rows of a block, its pixels that belong to their mask, and those that count (None: all)."""
    step = max(BLOCK.get(logits.device.type, LARGE_BLOCK) // max(logits.shape[1:].numel(), 1), 1)
    for first in range(0, len(logits), step):
        rows = slice(first, first + step)
        label = labels[image[rows]]
        yield rows, label == wanted[rows, None, None], None if ignore is None else label != ignore


def _wrongness(logits: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z = torch.where(inside, -logits, logits)
    return z, z.sigmoid(), torch.where(inside, ALPHA, 1 - ALPHA).to(z.dtype)
