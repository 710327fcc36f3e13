"""Adapters of the layers of Hugging Face ``transformers``: where each family keeps the parts of a block.

Hooks on a layer are called by the model itself, with all positions; hooks on its attention with (B, n, C) or (T, C),
see ``run_block``. ``output_attentions`` and the attention implementation of the config play no part.

Shapes: T packed tokens, C channels, H heads, D channels of a head, N positions.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from ..adapters import BlockAdapter
from ..attention import QKV
from ..calling import unwrapped


class HuggingFaceBlock(BlockAdapter):
    """A layer with linear ``q_proj``, ``k_proj``, ``v_proj`` and an ``mlp``; families say what is named otherwise.

    Args:
        layer: the layer.
        mask: what the model adds to the attention's logits, (1, H, N, N), or None.
        options: further keyword arguments with which the model calls the layer.

    Attributes:
        on_map: module (B, C, H, W) -> (B, C, H, W) that the layer runs on the whole map at its end, or None.
        window: side of the windows in which it attends; None for global attention.
    """

    attn_returns_tuple = True
    on_map: nn.Module | None = None
    window: int | None = None
    NORMS: ClassVar[tuple[str, str]] = ("layernorm_before", "layernorm_after")
    ATTENTION: ClassVar[str] = "attention"
    PROJECTIONS: ClassVar[tuple[str, str, str, str]] = ("q_proj", "k_proj", "v_proj", "o_proj")
    DROPOUT: ClassVar[str] = "attention_dropout"  # attribute of the attention
    HEAD_DIM: ClassVar[str] = "head_dim"

    def __init__(self, layer: nn.Module, mask: Tensor | None = None, **options: Any) -> None:
        super().__init__(layer)
        self.layer: Any = layer
        self.norm1, self.norm2 = (getattr(layer, name) for name in self.NORMS)
        self.attn, self.mlp = getattr(layer, self.ATTENTION), self.mlp_of(layer)
        self.drop_path1 = self.drop_path2 = getattr(layer, "drop_path", None)

    def mlp_of(self, layer: Any) -> Any:
        """Return the module (T, C) -> (T, C) of the MLP."""
        return layer.mlp

    @property
    def projections(self) -> Any:
        """The module that has the linear layers to q, k, v."""
        return unwrapped(self.attn)

    @property
    def attn_dropout(self) -> float:
        """Probability with which attention weights are dropped, 0 in evaluation."""
        return getattr(self.projections, self.DROPOUT) if self.projections.training else 0.0

    def qkv(self, x: Tensor) -> QKV:
        """Project normalized tokens ``x`` (T, C) to q, k, v, each (T, H, D)."""
        attn = self.projections
        shape = (-1, getattr(attn, self.HEAD_DIM))
        return QKV(*(getattr(attn, name)(x).unflatten(1, shape) for name in self.PROJECTIONS[:3]))

    def project(self, out: Tensor, x: Tensor) -> Tensor:
        """Project the attention's output ``out`` (T, H * D) to (T, C)."""
        return getattr(self.projections, self.PROJECTIONS[3])(out)


class ViTBlock(HuggingFaceBlock):
    """ViT, DeiT and ViTMAE: dropout after each branch."""

    def scale1(self, out: Tensor) -> Tensor:
        """Drop out the attention's branch (T, C)."""
        return self.layer.dropout(out)

    def scale2(self, out: Tensor) -> Tensor:
        """Drop out the branch (T, C) of the MLP."""
        return self.layer.dropout(out)


class Dinov2Block(HuggingFaceBlock):
    """DINOv2 with and without registers: LayerScale."""

    NORMS = ("norm1", "norm2")

    def scale1(self, out: Tensor) -> Tensor:
        """Apply the first LayerScale."""
        return self.layer.layer_scale1(out)

    def scale2(self, out: Tensor) -> Tensor:
        """Apply the second LayerScale."""
        return self.layer.layer_scale2(out)


class DINOv3Block(Dinov2Block):
    """DINOv3: rotary positions, which the run passes to all blocks."""

    DROPOUT = "dropout"
    rotate_half = True


class EomtBlock(Dinov2Block):
    """EoMT on DINOv2; the run limits what its queries attend to."""

    PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
    DROPOUT = "dropout"


class CLIPBlock(HuggingFaceBlock):
    """CLIP and SigLIP."""

    NORMS = ("layer_norm1", "layer_norm2")
    ATTENTION = "self_attn"
    PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
    DROPOUT = "dropout"


class BeitBlock(ViTBlock):
    """BEiT: LayerScale as parameters (or 1), and relative position biases, of the layer or shared by all."""

    def __init__(self, layer: Any, mask: Tensor | None = None, **options: Any) -> None:
        super().__init__(layer)
        if layer.relative_position_bias is not None and options:
            patch, pixels = layer.patch_size, options["resolution"]
            window = (pixels[0] // patch, pixels[1] // patch)
            stretch = options.get("interpolate_pos_encoding", False)
            own: Tensor = layer.relative_position_bias(window, stretch, 1 + window[0] * window[1])
            mask = own if mask is None else own + mask
        self.bias = None if mask is None else mask[0]

    def scale1(self, out: Tensor) -> Tensor:
        """Drop out and scale the attention's branch (T, C)."""
        return self.layer.lambda_1 * self.layer.dropout(out)

    def scale2(self, out: Tensor) -> Tensor:
        """Drop out and scale the branch (T, C) of the MLP."""
        return self.layer.lambda_2 * self.layer.dropout(out)


class YolosBlock(HuggingFaceBlock):
    """YOLOS: attention and MLP in the older layout of two modules each."""

    attn_returns_tuple = False
    PROJECTIONS = ("query", "key", "value", "dense")
    DROPOUT = "dropout_prob"
    HEAD_DIM = "attention_head_size"

    def mlp_of(self, layer: Any) -> nn.Module:
        """Return the MLP without the residual that ``layer.output`` would add."""
        return nn.Sequential(layer.intermediate, layer.output.dense, layer.output.dropout)

    @property
    def projections(self) -> Any:
        """The module that has the linear layers to q, k, v."""
        return unwrapped(self.attn).attention

    def project(self, out: Tensor, x: Tensor) -> Tensor:
        """Project the attention's output ``out`` (T, H * D) to (T, C)."""
        attn: Any = unwrapped(self.attn)
        return attn.output(out, x)
