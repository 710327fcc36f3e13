"""Backbones, registered in mmseg."""

from .staged_vit import StagedViT

__all__ = ["StagedViT"]
