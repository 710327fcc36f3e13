"""Detectors under autocast: RoIAlign and suppression of MMCV know no bfloat16, so they get single precision."""

import torch
from torch import nn

HEADS = ("rpn_head", "bbox_head", "mask_head")
EXTRACTORS = ("bbox_roi_extractor", "mask_roi_extractor")


def single_where_needed(model: nn.Module) -> None:
    """Cast what goes into RoIAlign, and what the heads return, to float32; all between stays as autocast has it."""
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if last in HEADS:
            module.register_forward_hook(lambda module, args, out: _single(out))
        elif last in EXTRACTORS:
            module.register_forward_pre_hook(lambda module, args: _single(args))


def _single(value: object) -> object:
    """``value`` with every floating-point tensor in its lists and tuples as float32."""
    if isinstance(value, (list, tuple)):
        return type(value)(_single(v) for v in value)
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
