"""RoIAlign of feature maps in any memory layout and precision.

MMCV's compiled CPU kernel silently reads a channels-last map as if it were contiguous, and has no half precision. mmdet
rounds regions to the type of the maps: to steps of 8 pixels from 1024 on in bfloat16.

Shapes: B images, C channels, R regions.
"""

from collections.abc import Sequence

import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor

_forward, _extract = RoIAlign.forward, SingleRoIExtractor.forward


def forward(self: RoIAlign, input: Tensor, rois: Tensor) -> Tensor:
    """Return MMCV's RoIAlign of regions (R, 5) on maps (B, C, h, w)."""
    return _forward(self, input.contiguous(), rois)


def extract(
    self: SingleRoIExtractor, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None
) -> Tensor:
    """Return mmdet's features of regions (R, 5), of maps of all levels, in the type of the maps.

    They are pooled in single precision, as in mmdet 2 and torchvision under autocast.
    """
    kind = feats[0].dtype
    single = torch.promote_types(kind, torch.float32)
    return _extract(self, tuple(one.to(single) for one in feats), rois, roi_scale_factor).to(kind)


RoIAlign.forward, SingleRoIExtractor.forward = forward, extract
