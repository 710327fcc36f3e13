"""Bipartite soft matching: which tokens to merge.

"Token Merging: Your ViT But Faster", Bolya et al., ICLR 2023, section 3.

Shapes: B images, n tokens of each, D channels of the metric, r tokens to merge away.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Match(NamedTuple):
    """Result of a matching, as places inside each image.

    Attributes:
        rows: (B, n - r) the tokens that remain, in their new order.
        sources: (B, r) the tokens that are merged away.
        targets: (B, r) the token of ``rows`` that each source is merged into.
    """

    rows: Tensor
    sources: Tensor
    targets: Tensor


def max_merged(tokens: int, protected: int) -> int:
    """Return how many of ``tokens`` tokens one matching can merge away at most."""
    return max((tokens - protected) // 2, 0)


def bipartite_matching(metric: Tensor, r: int, protected: int = 0) -> Match:
    """Match each token at an even place to its most similar token at an odd place and keep the ``r`` best pairs.

    Args:
        metric: (B, n, D), compared by cosine similarity.
        r: number of pairs, at most ``max_merged(n, protected)``.
        protected: number of tokens at the start of each image that are neither merged away nor merged into.

    Returns:
        The match. In ``rows``, the remaining tokens of even places precede those of odd places, so that later blocks
        can match other pairs. Protected tokens stay in front; without any, the remaining tokens of even places are
        sorted by falling similarity (both as published).
    """
    n = metric.shape[1]
    metric = F.normalize(metric.float(), dim=-1)
    even, odd = metric[:, ::2], metric[:, 1::2]
    with torch.autocast(metric.device.type, enabled=False):  # in half precision many similarities would tie
        similarity = even @ odd.transpose(1, 2)
    if protected > 1:
        similarity[:, :, : protected // 2] = -torch.inf
    best, partner = similarity.max(dim=2)
    if protected:
        best[:, : (protected + 1) // 2] = -torch.inf
    order = best.argsort(dim=1, descending=True, stable=True)
    merged, remaining = order[:, :r], order[:, r:]
    remaining = remaining.sort(dim=1).values if protected else remaining
    targets = partner.gather(1, merged) * 2 + 1
    all_odd = torch.arange(1, n, 2, device=metric.device).expand(len(metric), -1)
    first_even, first_odd = (protected + 1) // 2, protected // 2
    parts = [remaining[:, first_even:] * 2, all_odd[:, first_odd:]]
    if protected:
        parts.insert(0, torch.arange(protected, device=metric.device).expand(len(metric), -1))
    return Match(torch.cat(parts, dim=1), merged * 2, targets)
