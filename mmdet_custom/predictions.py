"""Boxes, masks and scores in single precision at least, whatever the precision of the network.

mmdet makes anchors and boxes in the type of a head's outputs: under autocast in bfloat16 they are rounded to steps of 8
pixels from 1024 on, in float16 to whole pixels, and its metrics cannot read bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from torch import Tensor

HEADS: tuple[Any, ...] = (BaseDenseHead, BBoxHead, FCNMaskHead)


def single(value: Any) -> Any:
    """Return ``value`` with the floating-point tensors in its lists and tuples in single precision at least."""
    if type(value) in (list, tuple):
        return type(value)(single(one) for one in value)
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(torch.promote_types(value.dtype, torch.float32))
    return value


def from_single(method: Callable) -> Callable:
    """Return a method that gets its arguments in single precision at least."""

    @wraps(method)
    def call(self: object, *args: Any, **kwargs: Any) -> Any:
        return method(self, *single(args), **{name: single(value) for name, value in kwargs.items()})

    return call


for head in HEADS:
    head.predict_by_feat = from_single(head.predict_by_feat)
