"""Self-attention of packed tokens: every image attends inside itself, however many tokens it has.

Shapes: T packed tokens (image after image), B images, n tokens of one image, H heads, D channels of a head, C = H * D.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import Attention
from torch import Tensor, nn

from .tokens import TokenSet


class QKV(NamedTuple):
    """Queries, keys and values of one block, each (T, H, D): what a reducer may read between attention and MLP."""

    q: Tensor
    k: Tensor
    v: Tensor


class WindowAttention(Attention):
    """timm's attention, computed inside non-overlapping windows of the grid (ViT-Adapter's windowed blocks).

    The map of q, k, v is padded with zeros at the right and bottom *after* the projection, and padding is not masked:
    the published weights were trained so. Needs every position of the grid, so no reducer can prune such a block.
    """

    window_size: int = 14  # set by the host: timm's Block does not hand further arguments on


def project_qkv(attn: nn.Module, x: Tensor) -> QKV:
    """q, k, v of tokens ``x`` (T, C) by a timm attention module, its query/key norms applied."""
    q, k, v = attn.qkv(x).view(len(x), 3, attn.num_heads, -1).unbind(1)
    return QKV(attn.q_norm(q), attn.k_norm(k), v)


def self_attention(attn: nn.Module, x: Tensor, tokens: TokenSet, keys: Tensor | None = None) -> tuple[Tensor, QKV]:
    """A timm attention module on packed tokens.

    Args:
        attn: timm ``Attention`` or our ``WindowAttention``.
        x: (T, C) normalised tokens.
        tokens: the set that they belong to; tells which token is of which image.
        keys: (T,) bool, which tokens can be attended to (all query); None for all.

    Returns:
        The projected output (T, C), and q, k, v.

    Raises:
        ValueError: a windowed block is asked to run on a subset of the grid.
    """
    qkv = project_qkv(attn, x)
    dropout = attn.attn_drop.p if attn.training else 0.0
    if isinstance(attn, WindowAttention):
        if not tokens.is_full or tokens.prefix or keys is not None:
            raise ValueError("a window-attention block needs all tokens of the grid and no prefix tokens; "
                             "list only global-attention blocks in the reducer's `blocks`")
        out = _window_attention(qkv, tokens, attn.window_size, dropout)
    else:
        out = packed_attention(qkv, tokens.counts, keys, dropout)
    out = attn.norm(out.flatten(1))
    if attn.gate is not None:
        out = out * attn.gate(x).sigmoid()
    return attn.proj_drop(attn.proj(out)), qkv


def packed_attention(qkv: QKV, counts: tuple[int, ...], keys: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """Attention (T, H, D) inside each image. One fused call where all images have equally many tokens, else one each.

    Slices of the packed tensors are attended to as they lie: nothing is padded to the longest image.
    """
    if len(set(counts)) == 1:
        return _attend(qkv, len(counts), keys, dropout)
    parts, start = [], 0
    for n in counts:
        if n:
            here = slice(start, start + n)
            parts.append(_attend(QKV(*(t[here] for t in qkv)), 1, None if keys is None else keys[here], dropout))
        start += n
    return torch.cat(parts) if parts else qkv.v


def _attend(qkv: QKV, batch: int, keys: Tensor | None, dropout: float) -> Tensor:
    tokens, heads, dim = qkv.v.shape
    if not tokens:
        return qkv.v
    q, k, v = (t.view(batch, -1, heads, dim).transpose(1, 2) for t in qkv)
    mask = None if keys is None else keys.view(batch, 1, 1, -1)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    return out.transpose(1, 2).reshape(tokens, heads, dim)


def _window_attention(qkv: QKV, tokens: TokenSet, size: int, dropout: float) -> Tensor:
    (rows, cols), batch = tokens.grid, tokens.batch
    heads, dim = qkv.v.shape[1:]
    down, right = -rows % size, -cols % size
    tall, wide = (rows + down) // size, (cols + right) // size

    def fold(t: Tensor) -> Tensor:
        t = F.pad(t.view(batch, rows, cols, heads, dim), (0, 0, 0, 0, 0, right, 0, down))
        t = t.view(batch, tall, size, wide, size, heads, dim).permute(0, 1, 3, 5, 2, 4, 6)
        return t.reshape(-1, heads, size * size, dim)

    out = F.scaled_dot_product_attention(*(fold(t) for t in qkv), dropout_p=dropout)
    out = out.view(batch, tall, wide, heads, size, size, dim).permute(0, 1, 4, 2, 5, 3, 6)
    out = out.reshape(batch, tall * size, wide * size, heads, dim)
    return out[:, :rows, :cols].reshape(-1, heads, dim)
