"""Adapters: what ``run_block`` needs of the transformer blocks of other libraries, one adapter per kind of block."""

from __future__ import annotations

from typing import Any

from timm.models.eva import EvaBlock
from timm.models.vision_transformer_sam import Block as SamBlock

from ..calling import unwrapped
from .grid import GridBlock
from .protocol import BlockAdapter
from .timm_blocks import TimmBlock, TimmEvaBlock, TimmSamBlock

__all__ = ["BlockAdapter", "GridBlock", "TimmBlock", "TimmEvaBlock", "TimmSamBlock", "adapt"]


def adapt(block: Any) -> BlockAdapter:
    """Return the adapter of a block: itself, or that of a block of timm, also inside wrappers."""
    if isinstance(block, BlockAdapter):
        return block
    inner = unwrapped(block)
    kinds = ((EvaBlock, TimmEvaBlock), (SamBlock, TimmSamBlock))
    return next((adapter for kind, adapter in kinds if isinstance(inner, kind)), TimmBlock)(block)
