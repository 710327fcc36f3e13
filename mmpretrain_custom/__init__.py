"""Classification: timm's vision transformers with a reducer, in mmpretrain; importing registers everything."""

import mmcv_custom  # noqa: F401  must be first, see mmcv_custom.compat

from .classifier import PrunedClassifier
from .datasets import CustomDataset
from .distillation import DeiTDistillation, DynamicViTDistillation
from .ema import EMAFromWeightsHook
from .vit import TimmViT

__all__ = [
    "CustomDataset",
    "DeiTDistillation",
    "DynamicViTDistillation",
    "EMAFromWeightsHook",
    "PrunedClassifier",
    "TimmViT",
]
