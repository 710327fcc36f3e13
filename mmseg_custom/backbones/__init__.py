"""Backbones, registered in mmseg."""

from .plain_vit import PlainViTBackbone, StagedViT

__all__ = ["PlainViTBackbone", "StagedViT"]
