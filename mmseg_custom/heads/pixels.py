"""From maps to the pixels of an image.

Shapes: B images, K classes, H x W grid, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (B, K, H, W) -> (B, K, h, w)."""
    size = tuple(size)
    if tuple(maps.shape[2:]) == size:
        return maps
    if not len(maps):  # which torch does not resample
        return maps.new_zeros(0, maps.shape[1], *size)
    # With classes last in memory, as tokens have them, torch would copy the large maps: a tenth of SegViT-B's time.
    return F.interpolate(maps.contiguous(), size, mode="bilinear")


def to_pixels(maps: Tensor, covers: Sequence[int], size: Sequence[int]) -> Tensor:
    """Maps (B, K, H, W) resampled to the pixels that their grid ``covers``, and cut to the image of ``size``: one
    whose sides are no multiples of the patch is not stretched."""
    return resize(maps, covers)[..., : size[0], : size[1]]


def predicted_size(batch_img_metas: list[dict]) -> tuple[int, int]:
    """(h, w) of the image that the metas describe, or of the window that slides over it."""
    meta = batch_img_metas[0]
    window = isinstance(meta["img_shape"], torch.Size)  # so mmseg's sliding marks it
    return tuple((meta["img_shape"] if window else meta.get("pad_shape", meta["img_shape"]))[:2])
