"""Classification: timm's vision transformers under a reducer, in mmpretrain. Importing registers everything."""

from .classifier import PrunedClassifier
from .distillation import DeiTDistillation, DynamicViTDistillation
from .ema import EMAFromWeightsHook
from .vit import TimmViT

__all__ = ["DeiTDistillation", "DynamicViTDistillation", "EMAFromWeightsHook", "PrunedClassifier", "TimmViT"]
