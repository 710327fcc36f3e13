"""Autocast for detectors: MMCV's RoIAlign and NMS do not support bfloat16, so they run in float32."""

import torch
from torch import nn

HEADS = ("rpn_head", "bbox_head", "mask_head")
EXTRACTORS = ("bbox_roi_extractor", "mask_roi_extractor")


def run_roi_ops_in_float32(model: nn.Module) -> None:
    """Cast the inputs of RoIAlign and the outputs of the heads to float32; autocast decides about everything else."""
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if last in HEADS:
            module.register_forward_hook(lambda module, args, out: _to_float32(out))
        elif last in EXTRACTORS:
            module.register_forward_pre_hook(lambda module, args: _to_float32(args))


def _to_float32(value: object) -> object:
    """Return ``value`` with every floating-point tensor in its lists and tuples as float32."""
    if isinstance(value, (list, tuple)):
        return type(value)(_to_float32(v) for v in value)
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
