"""Resampling of maps to the pixels of an image.

Shapes: B images, K classes, H x W grid, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resample maps (B, K, H, W) to (B, K, h, w)."""
    size = tuple(size)
    if tuple(maps.shape[2:]) == size:
        return maps
    if not maps.shape[0]:  # torch does not resample an empty batch
        return maps.new_zeros(0, maps.shape[1], *size)
    # Maps made of tokens have classes last in memory; torch would then copy the large maps (10% of SegViT-B's time).
    return F.interpolate(maps.contiguous(), size, mode="bilinear")


def to_pixels(maps: Tensor, covers: Sequence[int], size: Sequence[int]) -> Tensor:
    """Resample maps (B, K, H, W) to the pixels that their grid ``covers``, then crop them to the image's ``size``.

    So an image whose sides are no multiples of the patch is not stretched.
    """
    return resize(maps, covers)[..., : size[0], : size[1]]


def predicted_size(batch_img_metas: list[dict]) -> tuple[int, int]:
    """Return (h, w) of the network's input: the (padded) image, or the window in sliding inference."""
    meta = batch_img_metas[0]
    window = isinstance(meta["img_shape"], torch.Size)  # mmseg's sliding inference passes a torch.Size
    return tuple((meta["img_shape"] if window else meta.get("pad_shape", meta["img_shape"]))[:2])
