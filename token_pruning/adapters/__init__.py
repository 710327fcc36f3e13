"""Adapters: what ``run_block`` needs of the transformer blocks of other libraries, one adapter per kind of block."""

from __future__ import annotations

from typing import Any

from timm.models.eva import EvaBlock

from ..calling import unwrapped
from .protocol import BlockAdapter
from .timm_blocks import TimmBlock, TimmEvaBlock

__all__ = ["BlockAdapter", "TimmBlock", "TimmEvaBlock", "adapt"]


def adapt(block: Any) -> BlockAdapter:
    """Return the adapter of a block: itself, or that of timm's ``Block`` or ``EvaBlock``, also inside wrappers."""
    if isinstance(block, BlockAdapter):
        return block
    return TimmEvaBlock(block) if isinstance(unwrapped(block), EvaBlock) else TimmBlock(block)
