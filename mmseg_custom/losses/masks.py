"""Focal and dice loss of masks at full resolution, in one pass over blocks that fit into the cache.

Computed op by op, these losses would take most of the time and memory of a training step of an attention-to-mask head.
Here gradients come from a formula, and only the logits are saved for backward.

Shapes: M masks of h x w pixels, B label maps.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

ALPHA = 0.25  # focal loss: weight of pixels in the mask; the others have 1 - ALPHA. Gamma is 2.
BLOCK = {"cpu": 2**17}  # pixels per block: what fits into a core's cache
LARGE_BLOCK = 2**25  # on other devices, where blocks only limit the memory


def mask_losses(
    logits: Tensor, labels: Tensor, image: Tensor, wanted: Tensor, ignore: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the sigmoid focal loss and the dice loss of each mask.

    The focal loss (Lin et al., ICCV 2017, equation 5) is the mean over the mask's pixels; the dice loss has 1 added to
    numerator and denominator.

    Args:
        logits: (M, h, w).
        labels: (B, h, w) int64.
        image: (M,) index of the label map of each mask.
        wanted: (M,) label of the pixels that belong to the mask.
        ignore: label of pixels to leave out; None counts all pixels, and those with another label as outside.

    Returns:
        Focal (M,) and dice (M,).
    """
    return MaskLosses.apply(logits, labels, image, wanted, ignore)


class MaskLosses(Function):
    """Autograd function of ``mask_losses``.

    Let z be the logit of a pixel outside the target mask and minus the logit inside. Then q = sigmoid(z) is the error,
    the focal loss is w q^2 softplus(z), and its derivative is w q^2 (2 (1 - q) softplus(z) + q).
    """

    @staticmethod
    def forward(
        ctx, logits: Tensor, labels: Tensor, image: Tensor, wanted: Tensor, ignore: int | None
    ) -> tuple[Tensor, Tensor]:
        """Return both losses; the arguments are those of ``mask_losses``."""
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
    def backward(ctx, focal: Tensor, dice: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the logits from those of the two losses, each (M,)."""
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
    """Yield the rows of each block, which pixels belong to their mask, and which count (None: all)."""
    step = max(BLOCK.get(logits.device.type, LARGE_BLOCK) // max(logits.shape[1:].numel(), 1), 1)
    for first in range(0, len(logits), step):
        rows = slice(first, first + step)
        label = labels[image[rows]]
        yield rows, label == wanted[rows, None, None], None if ignore is None else label != ignore


def _wrongness(logits: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z = torch.where(inside, -logits, logits)
    return z, z.sigmoid(), torch.where(inside, ALPHA, 1 - ALPHA).to(z.dtype)
