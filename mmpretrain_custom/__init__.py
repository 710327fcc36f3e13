"""Classification: timm's vision transformers under a reducer, in mmpretrain. Importing registers everything."""

import mmcv_custom  # noqa: F401  first: see mmcv_custom.compat

from .classifier import PrunedClassifier
from .distillation import DeiTDistillation, DynamicViTDistillation
from .ema import EMAFromWeightsHook
from .vit import TimmViT

__all__ = ["DeiTDistillation", "DynamicViTDistillation", "EMAFromWeightsHook", "PrunedClassifier", "TimmViT"]
