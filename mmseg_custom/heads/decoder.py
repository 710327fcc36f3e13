"""The decoder of attention-to-mask heads, in which class queries attend to tokens.

"SegViT", Zhang et al., NeurIPS 2022, section 3.2. Parameter names are the published ones.

Shapes: B images, K queries, T packed tokens (image after image), n the largest number of tokens of an image, C
channels, H heads, D channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from token_pruning.counts import Counts
from token_pruning.errors import SettingError


class Rows:
    """Layout of packed tokens in a (B, n) block: a view if all images have equally many tokens, else zero-padded.

    Only keys and values are laid out so; the projections run on packed tokens and spend nothing on padding.
    """

    def __init__(self, counts: Counts, device: torch.device) -> None:
        self.batch, self.most = counts.batch, counts.most
        self.place = self.used = None
        if counts.each is None:
            number = counts.tensor(device)
            ends = number.cumsum(0)
            gaps = torch.arange(self.batch, device=device) * self.most - (ends - number)
            self.place = torch.arange(counts.total, device=device) + counts.per_token(gaps)
            self.used = torch.arange(self.most, device=device) < number[:, None]

    def spread(self, x: Tensor) -> Tensor:
        """Lay out packed (T, ...) as (B, n, ...)."""
        if self.place is not None:
            x = x.new_zeros(self.batch * self.most, *x.shape[1:]).index_copy(0, self.place, x)
        return x.view(self.batch, self.most, *x.shape[1:])

    def pack(self, x: Tensor) -> Tensor:
        """Invert ``spread``."""
        x = x.flatten(0, 1)
        return x if self.place is None else x[self.place]


class CrossAttention(nn.Module):
    """Attention of queries to the tokens of their own image."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        if dim % num_heads:
            raise SettingError(f"{dim} channels cannot be split into {num_heads} heads; choose a divisor as num_heads")
        self.num_heads, self.dropout = num_heads, dropout
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, queries: Tensor, tokens: Tensor, rows: Rows, with_masks: bool) -> tuple[Tensor, Tensor | None]:
        """Attend from queries (B, K, C) to tokens (T, C).

        Returns:
            (B, K, C), and with ``with_masks`` the logits (T, K) before the softmax, averaged over the heads, else None.
        """
        q, k = self.q(queries), rows.spread(self.k(tokens))
        v = rows.spread(self.v(tokens))
        heads = [t.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v)]
        used = None if rows.used is None else rows.used[:, None, None]
        out = F.scaled_dot_product_attention(*heads, attn_mask=used, dropout_p=self.dropout if self.training else 0.0)
        masks = None
        if with_masks:
            # The heads' mean of q k^T is a single product over all channels.
            scale = (q.shape[2] // self.num_heads) ** -0.5 / self.num_heads
            masks = rows.pack(k @ (q * scale).transpose(1, 2))
        return self.proj(out.transpose(1, 2).flatten(2)), masks


class DecoderLayer(nn.Module):
    """Self-attention over queries, cross-attention to tokens, MLP; each with a residual, then a LayerNorm.

    Args:
        self_attention: False leaves self-attention and its norm out (SegViT v2).
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.1, self_attention: bool = True) -> None:
        super().__init__()
        self.multihead_attn = CrossAttention(dim, num_heads, dropout)
        self.self_attn = nn.MultiheadAttention(dim, num_heads, dropout, batch_first=True) if self_attention else None
        self.linear1, self.linear2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.norm1 = nn.LayerNorm(dim) if self_attention else None
        self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, tokens: Tensor, rows: Rows, with_masks: bool) -> tuple[Tensor, Tensor | None]:
        """Return the queries for the next layer, and mask logits as ``CrossAttention`` does."""
        if self.self_attn is not None:
            x = self.self_attn(queries, queries, queries, need_weights=False)[0]
            queries = self.norm1(queries + self.dropout(x))
        x, masks = self.multihead_attn(queries, tokens, rows, with_masks)
        queries = self.norm2(queries + self.dropout(x))
        x = self.linear2(self.dropout(F.relu(self.linear1(queries))))
        return self.norm3(queries + self.dropout(x)), masks


class Decoder(nn.Module):
    """A sequence of decoder layers."""

    def __init__(
        self, dim: int, num_heads: int, num_layers: int, dropout: float = 0.1, self_attention: bool = True
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(dim, num_heads, dropout, self_attention) for _ in range(num_layers))

    def forward(self, queries: Tensor, tokens: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return the queries (B, K, C) after the last layer, and its mask logits (T, K)."""
        for layer in self.layers:
            queries, masks = layer(queries, tokens, rows, layer is self.layers[-1])
        return queries, masks

    def each(self, queries: Tensor, tokens: Tensor, rows: Rows) -> list[tuple[Tensor, Tensor]]:
        """Return the queries and mask logits after every layer."""
        found = []
        for layer in self.layers:
            queries, masks = layer(queries, tokens, rows, True)
            found.append((queries, masks))
        return found
