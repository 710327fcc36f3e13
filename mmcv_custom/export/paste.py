"""Masks inside boxes become masks of the image.

Shapes: n masks of m x m values, h x w pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the probabilities (n, h, w) of masks (n, m, m) that fill ``boxes`` (n, 4), 0 outside of them.

    Args:
        masks: probabilities inside the boxes.
        boxes: (x1, y1, x2, y2) in pixels of the image.
        size: (h, w) of the image.
    """
    low, sides = boxes[:, :2], (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
    x, y = (torch.arange(side, device=boxes.device, dtype=boxes.dtype) + 0.5 for side in (size[1], size[0]))
    x = (x[None] - low[:, :1]) / sides[:, :1] * 2 - 1
    y = (y[None] - low[:, 1:]) / sides[:, 1:] * 2 - 1
    grid = torch.stack([x[:, None].expand(-1, size[0], -1), y[:, :, None].expand(-1, -1, size[1])], -1)
    return F.grid_sample(masks[:, None], grid, align_corners=False)[:, 0]
