"""The router of one pruning block of Token Cropr: cross-attention of learned queries to the tokens.

"Token Cropr: Faster ViTs for Quite a Few Tasks", Bergner et al., CVPR 2025, section 3. Parameter names are the
published ones.

Shapes: B images, M tokens of each, T = B * M, Q queries, C channels, K classes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Mlp, trunc_normal_tf_
from torch import Tensor, nn

EPS = 1e-6


class CrossAttention(nn.Module):
    """Cross-attention of learned queries to the tokens.

    Scoring needs only ``vector``: the sum of a token's logits over queries and heads is its product with one vector.
    """

    def __init__(
        self,
        dim: int,
        num_queries: int = 1,
        num_heads: int = 1,
        pre_norm: bool = False,
        q_proj: bool = False,
        k_proj: bool = False,
        v_proj: bool = False,
        mlp_ratio: float | None = 4.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.queries = nn.Parameter(torch.empty(1, num_queries, dim))
        trunc_normal_tf_(self.queries, std=dim**-0.5)
        self.attn_norm = nn.LayerNorm(dim, eps=EPS) if pre_norm else nn.Identity()
        self.q, self.k, self.v = (
            nn.Linear(dim, dim, bias=False) if wanted else nn.Identity() for wanted in (q_proj, k_proj, v_proj)
        )
        self.proj = nn.Linear(dim, dim) if num_heads > 1 else nn.Identity()
        self.mlp_norm = nn.LayerNorm(dim, eps=EPS) if mlp_ratio else nn.Identity()
        self.mlp = Mlp(dim, int(dim * mlp_ratio)) if mlp_ratio else None

    def vector(self) -> Tensor:
        """Return the scoring vector (C,).

        Its product with a token (normalized, if there is a norm) is the token's score, up to a constant per image.
        """
        vector = self.queries[0].float().sum(0)
        if isinstance(self.q, nn.Linear):
            vector = self.q.weight.float() @ vector
        if isinstance(self.k, nn.Linear):
            vector = vector @ self.k.weight.float()
        return vector if isinstance(self.attn_norm, nn.Identity) else self.attn_norm.weight * vector

    def forward(self, x: Tensor, query_indices: Tensor | None = None) -> Tensor:
        """Return the outputs (B, Q, C) of the queries for tokens ``x`` (B, M, C), without a residual of the queries.

        ``query_indices`` (Q,): the queries to run; None for all.
        """
        x = self.attn_norm(x)
        queries = self.queries if query_indices is None else self.queries[:, query_indices]
        q, k, v = (
            t.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for t in (self.q(queries).expand(x.shape[0], -1, -1), self.k(x), self.v(x))
        )
        z = self.proj(F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v).transpose(1, 2).flatten(2))
        return z if self.mlp is None else z + self.mlp(self.mlp_norm(z))


class AuxiliaryHead(nn.Module):
    """LayerNorm and linear classifier of an auxiliary head."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, Q, K) for query outputs ``x`` (B, Q, C)."""
        return self.head(self.norm(x))


class Router(nn.Module):
    """Scoring queries with the aggregator and the auxiliary head that train them.

    Args:
        dim: C.
        num_classes: K of the auxiliary head.
        attention: arguments of ``CrossAttention``.
    """

    def __init__(self, dim: int, num_classes: int, **attention: Any) -> None:
        super().__init__()
        self.cross_attn = CrossAttention(dim, **attention)
        self.head = AuxiliaryHead(dim, num_classes)

    def forward(self, x: Tensor, query_indices: Tensor | None = None) -> Tensor:
        """Return logits (B, Q, K) for tokens ``x`` (B, M, C)."""
        return self.head(self.cross_attn(x, query_indices))

    def vector(self) -> Tensor:
        return self.cross_attn.vector()


class FoldedRouter(nn.Module):
    """A trained router reduced to its scoring vector, for inference."""

    folded: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("folded", torch.zeros(dim))

    def vector(self) -> Tensor:
        return self.folded


def scores(x: Tensor, vector: Tensor, pre_norm: bool = False) -> Tensor:
    """Return the scores (T,) of tokens ``x`` (T, C).

    In single precision: half precision gives many tokens equal scores, and overflows.
    """
    with torch.autocast(x.device.type, enabled=False):
        x = F.layer_norm(x.float(), x.shape[1:], eps=EPS) if pre_norm else x.float()
        return x @ vector.float()
