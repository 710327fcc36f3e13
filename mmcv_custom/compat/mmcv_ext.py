"""Substitutes for MMCV's compiled operators, for environments where MMCV was installed without them.

mmdet, mmseg and mmpretrain import ``mmcv.ops`` and with it the extension module ``mmcv._ext``. Of its operators this
project's models use NMS, Soft-NMS and RoIAlign. torchvision has compiled NMS and RoIAlign kernels for CPU and CUDA;
Soft-NMS is written in PyTorch. Importing this module appends a finder to ``sys.meta_path``: a compiled MMCV takes
precedence.

Shapes: N boxes, R regions, C channels, h x w pixels of a map, (ph, pw) bins of a region.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types

import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor

NAME = "mmcv._ext"
SOFT_NMS_METHODS = ("naive", "linear", "gaussian")


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the boxes (N, 4) that NMS keeps, best first; a box is ``x2 - x1 + offset`` wide."""
    boxes = _at_least_single(boxes)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torch.ops.torchvision.nms(boxes, scores.to(boxes.dtype), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Decay the scores of boxes that overlap a better one instead of dropping them (Soft-NMS, Bodla et al., 2017).

    All tensors are on the CPU, where MMCV moves them.

    Args:
        boxes: (N, 4).
        scores: (N,).
        dets: (N, 5), filled with the kept boxes and their decayed scores, best first.
        iou_threshold: overlap from which methods 0 and 1 decay a score.
        sigma: width of method 2.
        min_score: boxes whose score falls below it are dropped.
        method: 0 sets the score to 0, as plain NMS does; 1 multiplies it by 1 - IoU; 2 by exp(-IoU^2 / sigma).
        offset: a box is ``x2 - x1 + offset`` wide.

    Returns:
        Indices of the kept boxes, in the order of ``dets``.
    """
    left = scores.clone()
    area = (boxes[:, 2] - boxes[:, 0] + offset) * (boxes[:, 3] - boxes[:, 1] + offset)
    alive = torch.ones(len(boxes), dtype=torch.bool)
    kept = []
    while alive.any():
        best = int(left.masked_fill(~alive, -torch.inf).argmax())
        dets[len(kept), :4], dets[len(kept), 4] = boxes[best], left[best]
        kept.append(best)
        alive[best] = False
        low, high = torch.maximum(boxes[best, :2], boxes[:, :2]), torch.minimum(boxes[best, 2:], boxes[:, 2:])
        inter = (high - low + offset).clamp(min=0).prod(1)
        iou = inter / (area[best] + area - inter)
        over = iou >= iou_threshold
        factor = {
            "naive": (~over).to(left),
            "linear": torch.where(over, 1 - iou, 1.0),
            "gaussian": (-(iou**2) / sigma).exp(),
        }[SOFT_NMS_METHODS[method]]
        left = torch.where(alive, left * factor, left)
        alive &= left >= min_score
    return torch.tensor(kept, dtype=torch.int64)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``output`` (R, C, ph, pw) with the averages of ``input`` (B, C, h, w) over the bins of ``rois`` (R, 5).

    Raises:
        NotImplementedError: ``pool_mode`` is 0 (maximum), which torchvision does not have.
    """
    if pool_mode == 0:
        raise NotImplementedError(_missing("roi_align with pool_mode='max'"))
    maps = _at_least_single(input).contiguous()
    output.copy_(
        torch.ops.torchvision.roi_align(
            maps, rois.to(maps.dtype), spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``grad_input`` (B, C, h, w) from ``grad_output`` (R, C, ph, pw)."""
    grad_output = _at_least_single(grad_output)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output,
            rois.to(grad_output.dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def _at_least_single(t: Tensor) -> Tensor:
    """Convert 16-bit floats to float32.

    The kernels of torchvision do not support bfloat16, and in float16 coordinates of several hundred pixels are rounded
    to quarters of a pixel or more.
    """
    return t if t.dtype in (torch.float32, torch.float64) else t.float()


def _missing(operator: str) -> str:
    return (
        f"{operator} needs MMCV's compiled operators, and this onedl-mmcv has none: install it with `make setup "
        "MMCV=compiled` or `MMCV_WITH_OPS=1 pip install --no-build-isolation --no-binary onedl-mmcv onedl-mmcv`"
    )


class _Substitute(types.ModuleType):
    """Module ``mmcv._ext`` with the operators above; any other operator raises an error that says what to install."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def unavailable(*args, **kwargs):
            raise NotImplementedError(_missing(name))

        return unavailable


class _Finder:
    """Finder and loader of ``mmcv._ext``, asked after all others."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, _Finder) if name == NAME else None

    @staticmethod
    def create_module(spec):
        return _Substitute(spec.name)

    @staticmethod
    def exec_module(module):
        for operator in (nms, softnms, roi_align_forward, roi_align_backward):
            setattr(module, operator.__name__, operator)


if _Finder not in sys.meta_path:
    sys.meta_path.append(_Finder)
