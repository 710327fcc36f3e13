"""Backbones, registered in mmdet."""

from .vit_adapter import ViTAdapter
from .vit_baseline import ViTBaseline

__all__ = ["ViTAdapter", "ViTBaseline"]
