"""Backbones, registered in mmseg."""

from .plain_vit import PlainViTBackbone

__all__ = ["PlainViTBackbone"]
