"""Learned selector networks.

Shapes: T packed tokens, n of one image, B images, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn

from ..counts import Counts

KEEP = 0  # class 0 of the published selectors means keep


class Selector(nn.Module):
    """Selector of SViT: LayerNorm, Linear C -> C/4, GELU, Linear -> 2, log-softmax."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, hidden_features=max(dim // 4, 1), out_features=2)

    def forward(self, x: Tensor, counts: Counts | None = None) -> Tensor:
        """Return log-probabilities (..., 2) of (keep, drop) for tokens ``x`` (..., C), in at least single precision.

        ``counts`` is unused; it makes the signature that of the other selectors.
        """
        return self.mlp(self.norm(x)).float().log_softmax(dim=-1)


class DynamicViTSelector(nn.Module):
    """Selector of DynamicViT, which combines local and global features.

    LayerNorm, Linear C -> C, GELU; half of the channels stay per token, the other half are replaced by their mean over
    the image; Linear -> C/2 -> C/4 -> 2 with GELU between, log-softmax.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.embed, self.reduce = nn.Linear(dim, dim), nn.Linear(dim, max(dim // 2, 1))
        self.mlp = Mlp(max(dim // 2, 1), hidden_features=max(dim // 4, 1), out_features=2)

    def forward(self, x: Tensor, counts: Counts, policy: Tensor | None = None) -> Tensor:
        """Return log-probabilities (T, 2) of (keep, drop) for tokens ``x`` (T, C).

        Args:
            x: tokens, image after image.
            counts: number of tokens of each image.
            policy: (T,) weights of the tokens in the mean; None for equal weights.
        """
        local, shared = F.gelu(self.embed(self.norm(x))).chunk(2, dim=1)
        weights = shared.new_ones(x.shape[0], dtype=torch.float32) if policy is None else policy
        # All images at once where they can: one by one, a GPU would wait for the host.
        parts = zip(counts.groups(shared), counts.groups(weights), strict=True)
        means = [_mean(part, weight).flatten(0, 1) for part, weight in parts]
        mean = torch.cat(means) if len(means) > 1 else means[0]
        return self.mlp(F.gelu(self.reduce(torch.cat([local, mean], dim=1)))).float().log_softmax(dim=-1)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of ``values`` (..., n, C) over n, expanded to their shape; 0 if all weights are 0."""
    total = weights.sum(-1, keepdim=True).clamp(min=1e-6)[..., None]
    # Means over thousands of tokens need single precision.
    mean = (values.float() * weights[..., None]).sum(-2, keepdim=True) / total
    return mean.expand_as(values).to(values.dtype)


GATES = {"mlp": Selector, "dynamicvit": DynamicViTSelector}
