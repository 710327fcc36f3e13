"""Adapters of timm's blocks.

Shapes: T packed tokens, C channels, H heads, D channels of a head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import QKV
from ..calling import unwrapped
from .protocol import BlockAdapter


class TimmBlock(BlockAdapter):
    """timm's ``Block``, with ``Attention``, ``AttentionRope`` or our ``WindowAttention``."""

    def __init__(self, block: nn.Module) -> None:
        inner: Any = unwrapped(block)
        super().__init__(inner)
        self.hooked, self.attn = block, inner.attn
        self.norm1, self.norm2, self.mlp = inner.norm1, inner.norm2, inner.mlp
        self.drop_path1, self.drop_path2 = inner.drop_path1, inner.drop_path2
        self.attention: Any = unwrapped(inner.attn)
        self.rotate_half = getattr(self.attention, "rotate_half", False)
        self.ls1, self.ls2 = self.layer_scales(inner)

    @staticmethod
    def layer_scales(block: Any) -> tuple[Any, Any]:
        """Return the functions (T, C) -> (T, C) that scale the two branches."""
        return block.ls1, block.ls2

    def scale1(self, out: Tensor) -> Tensor:
        """Apply the first LayerScale."""
        return self.ls1(out)

    def scale2(self, out: Tensor) -> Tensor:
        """Apply the second LayerScale."""
        return self.ls2(out)

    @property
    def attn_dropout(self) -> float:
        """Probability with which attention weights are dropped, 0 in evaluation."""
        return self.attention.attn_drop.p if self.attention.training else 0.0

    def qkv(self, x: Tensor) -> QKV:
        """Project normalized tokens ``x`` (T, C) to q, k, v, each (T, H, D); norms of q and k included."""
        attn = self.attention
        if attn.qkv is None:  # EVA-02 of size B and L
            projections = (attn.q_proj, attn.k_proj, attn.v_proj)
            q, k, v = (project(x).unflatten(1, (attn.num_heads, -1)) for project in projections)
        else:
            # EVA has no bias for keys, so its biases are separate from the fused projection.
            separate = getattr(attn, "q_bias", None) is not None
            if separate:
                qkv = F.linear(x, attn.qkv.weight, torch.cat([attn.q_bias, attn.k_bias, attn.v_bias]))
            else:
                qkv = attn.qkv(x)
            q, k, v = qkv.view(x.shape[0], 3, attn.num_heads, -1).unbind(1)
        return QKV(attn.q_norm(q), attn.k_norm(k), v)

    def project(self, out: Tensor, x: Tensor) -> Tensor:
        """Project the attention's output ``out`` (T, H * D) to (T, C); a gate reads ``x`` (T, C)."""
        attn = self.attention
        out = attn.norm(out)
        if attn.gate is not None:
            out = out * attn.gate(x).sigmoid()
        return attn.proj_drop(attn.proj(out))


class TimmEvaBlock(TimmBlock):
    """timm's ``EvaBlock``, with ``EvaAttention`` or ``AttentionRope``: its scales are parameters, or None."""

    @staticmethod
    def layer_scales(block: Any) -> tuple[Any, Any]:
        """Return the functions (T, C) -> (T, C) that scale the two branches."""
        first, second = ((lambda x: x) if gamma is None else gamma.mul for gamma in (block.gamma_1, block.gamma_2))
        return first, second
