"""RoIAlign of feature maps in any memory layout.

MMCV's compiled CPU kernel silently reads a channels-last map as if it were contiguous.

Shapes: B images, C channels, R regions.
"""

from mmcv.ops import RoIAlign
from torch import Tensor

_forward = RoIAlign.forward


def forward(self: RoIAlign, input: Tensor, rois: Tensor) -> Tensor:
    """Return MMCV's RoIAlign of regions (R, 5) on maps (B, C, h, w)."""
    return _forward(self, input.contiguous(), rois)


RoIAlign.forward = forward
