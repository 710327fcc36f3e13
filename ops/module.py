"""Deformable attention as a module, with the parameter names of the published checkpoints.

Shapes: B images, S positions of all levels, Q queries, C channels, M heads, L levels, P points.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .functional import Shapes, check_shapes, deformable_attention


class MSDeformAttn(nn.Module):
    """Multi-scale deformable attention (Zhu et al., Deformable DETR, section 4.1). No residual, no dropout.

    Args:
        d_model: C.
        n_levels, n_heads, n_points: L, M, P.
        ratio: width of the values relative to C.

    Raises:
        ValueError: the value width is not divisible by the number of heads.
    """

    def __init__(
        self, d_model: int = 256, n_levels: int = 4, n_heads: int = 8, n_points: int = 4, ratio: float = 1.0
    ) -> None:
        super().__init__()
        width = int(d_model * ratio)
        if width % n_heads:
            raise ValueError(
                f"{width} value channels ({d_model} x ratio {ratio}) cannot be split over {n_heads} "
                "heads; change the number of heads or the ratio"
            )
        self.n_levels, self.n_heads, self.n_points = n_levels, n_heads, n_points
        self.sampling_offsets = nn.Linear(d_model, n_heads * n_levels * n_points * 2)
        self.attention_weights = nn.Linear(d_model, n_heads * n_levels * n_points)
        self.value_proj = nn.Linear(d_model, width)
        self.output_proj = nn.Linear(width, d_model)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Make head i sample in direction 2 pi i / M, point p at p + 1 pixels (largest component), equally weighted."""
        angle = torch.arange(self.n_heads) * (2 * math.pi / self.n_heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(dim=-1, keepdim=True)
        steps = torch.arange(1, self.n_points + 1)[:, None]
        star = (direction[:, None, None] * steps).repeat(1, self.n_levels, 1, 1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(star.flatten())
        for weight in (
            self.sampling_offsets.weight,
            self.attention_weights.weight,
            self.attention_weights.bias,
            self.value_proj.bias,
            self.output_proj.bias,
        ):
            nn.init.zeros_(weight)
        nn.init.xavier_uniform_(self.value_proj.weight)
        nn.init.xavier_uniform_(self.output_proj.weight)

    def forward(
        self, query: Tensor, reference_points: Tensor, feat: Tensor, shapes: Shapes, padding_mask: Tensor | None = None
    ) -> Tensor:
        """Attend from the queries to the feature maps.

        Args:
            query: (B, Q, C).
            reference_points: (B or 1, Q, L or 1, 2 or 4) in [0, 1]; see ``deformable_attention``.
            feat: (B, S, C).
            shapes: L pairs (h, w) of Python ints.
            padding_mask: (B, S) bool, True where ``feat`` is padding, which is read as zero.

        Returns:
            (B, Q, C).

        Raises:
            ValueError: the level shapes do not cover ``feat``, or there are not L of them.
        """
        if len(shapes) != self.n_levels:
            raise ValueError(f"got the shapes of {len(shapes)} levels, this module was built for {self.n_levels}")
        check_shapes(shapes, feat.shape[1], "feat")
        value = self.value_proj(feat)
        if padding_mask is not None:
            value = value.masked_fill(padding_mask[..., None], 0)
        batch, queries = query.shape[:2]
        layout = (batch, queries, self.n_heads, self.n_levels, self.n_points, 2)
        out = deformable_attention(
            value.unflatten(-1, (self.n_heads, -1)),
            shapes,
            reference_points,
            self.sampling_offsets(query).view(layout),
            self.attention_weights(query).view(batch, queries, self.n_heads, -1),
        )
        return self.output_proj(out)
