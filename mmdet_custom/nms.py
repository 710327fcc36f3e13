"""NMS in mixed precision.

MMCV's compiled CPU operators take boxes and scores of one type, in single precision at least; under autocast scores are
in half precision and boxes are not.

Shapes: N boxes.
"""

from typing import Any

import torch
from mmcv.ops.nms import NMSop, SoftNMSop
from torch import Tensor

_forward = {operator: operator.forward for operator in (NMSop, SoftNMSop)}


def nms(ctx: Any, boxes: Tensor, scores: Tensor, *options: Any) -> Tensor:
    """Return MMCV's NMS of boxes (N, 4) with scores (N,)."""
    return _forward[NMSop](ctx, *_of_one_type(boxes, scores), *options)


def soft_nms(ctx: Any, boxes: Tensor, scores: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    """Return MMCV's Soft-NMS of boxes (N, 4) with scores (N,)."""
    return _forward[SoftNMSop](ctx, *_of_one_type(boxes, scores), *options)


def _of_one_type(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    kind = torch.promote_types(boxes.dtype, torch.float32)
    return boxes.to(kind), scores.to(kind)


NMSop.forward, SoftNMSop.forward = staticmethod(nms), staticmethod(soft_nms)
