"""Adapters of the layers of Hugging Face ``transformers`` that attend in windows of the map.

Shapes: T packed tokens, B images, C channels, H heads, D channels of a head, W windows of r x c tokens (n = r * c).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from timm.layers import apply_rot_embed_cat
from torch import Tensor

from ..adapters.grid import GridBlock, decomposed_bias
from ..attention import QKV
from .blocks import HuggingFaceBlock


class SamBlock(GridBlock, HuggingFaceBlock):
    """SAM and SAM-HQ: fused projection, decomposed relative positions."""

    NORMS = ("layer_norm1", "layer_norm2")
    ATTENTION = "attn"
    PROJECTIONS = ("qkv", "qkv", "qkv", "proj")
    DROPOUT = "dropout"
    HEADS: ClassVar[str] = "num_attention_heads"
    RELATIVE: ClassVar[str] = "use_rel_pos"

    def __init__(self, layer: Any, mask: Tensor | None = None, **options: Any) -> None:
        super().__init__(layer)
        self.window = layer.window_size or None

    def qkv(self, x: Tensor) -> QKV:
        """Project normalized tokens ``x`` (T, C) to q, k, v, each (T, H, D)."""
        attn = self.projections
        return QKV(*attn.qkv(x).view(len(x), 3, getattr(attn, self.HEADS), -1).unbind(1))

    def position_bias(self, q: Tensor, shape: tuple[int, int]) -> Tensor | None:
        """Return the bias of relative positions (W, H, n, n) in windows of ``shape``, or None."""
        attn = self.projections
        return decomposed_bias(q, (attn.rel_pos_h, attn.rel_pos_w), shape) if getattr(attn, self.RELATIVE) else None


class VitDetBlock(SamBlock):
    """ViTDet: as SAM, with stochastic depth and, in some layers, a convolution block on the whole map."""

    NORMS = ("norm1", "norm2")
    ATTENTION = "attention"
    HEADS = "num_heads"
    RELATIVE = "use_relative_position_embeddings"

    def __init__(self, layer: Any, mask: Tensor | None = None, **options: Any) -> None:
        super().__init__(layer)
        self.on_map = layer.residual if layer.use_residual_block else None

    @property
    def attn_dropout(self) -> float:
        """Attention weights are never dropped."""
        return 0.0


class Sam3Block(GridBlock, HuggingFaceBlock):
    """SAM 3: rotary positions of the window, dropout after the MLP."""

    NORMS = ("layer_norm1", "layer_norm2")

    def __init__(self, layer: Any, mask: Tensor | None = None, **options: Any) -> None:
        super().__init__(layer)
        self.window = layer.window_size or None

    def scale2(self, out: Tensor) -> Tensor:
        """Drop out the branch (T, C) of the MLP."""
        return self.layer.dropout(out)

    def rotate(self, q: Tensor, k: Tensor, shape: tuple[int, int], dense: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return q and k (W, H, n, D), rotated; the positions of a smaller window spread over the same range."""
        places = self.layer.position_ids  # (N, 2) of the dense window: column, then row, both scaled
        if shape != dense:
            step = places[-1] / (places.new_tensor([dense[1] - 1, dense[0] - 1]).clamp(min=1))
            wider = [old / new for old, new in zip(dense, shape, strict=True)]
            rows, columns = (
                torch.arange(n, device=places.device) * w * s
                for n, w, s in zip(shape, wider, step.flip(0), strict=True)
            )
            places = torch.stack([columns.repeat(shape[0]), rows.repeat_interleave(shape[1])], dim=1)
        cos, sin = self.layer.rotary_emb(q, places)
        table = torch.cat([sin, cos], dim=-1)[0]
        q, k = (apply_rot_embed_cat(t.float(), table).type_as(t) for t in (q, k))
        return q, k
