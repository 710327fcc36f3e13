"""Matchings: which tokens to merge into which.

Bipartite soft matching: "Token Merging: Your ViT But Faster", Bolya et al., ICLR 2023, section 3. Matching by energy:
"Accelerating Transformers with Spectrum-Preserving Token Merging", Tran et al., NeurIPS 2024, section 3.

Shapes: B images, n tokens of each, D channels of the metric, r tokens to merge away.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .similarity import best_match, cosines, fits, joined, strips, unit


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
    best, partner = best_partners(metric, protected)
    return keep_pairs(best, partner, metric.shape[1], r, protected)


def best_partners(metric: Tensor, protected: int = 0) -> tuple[Tensor, Tensor]:
    """Return the largest cosine of each token at an even place to one at an odd place, and its number among these.

    Both are (B, ceil(n / 2)). Of the ``protected`` tokens at the start of each image, those at even places get minus
    infinity, and those at odd places are nobody's partner.
    """
    metric = unit(metric)
    best, partner = best_match(metric[:, ::2], metric[:, 1::2][:, protected // 2 :])
    first = (protected + 1) // 2
    if first:
        best = torch.cat([best.new_full((best.shape[0], first), -torch.inf), best[:, first:]], dim=1)
    return best, partner + protected // 2


def keep_pairs(best: Tensor, partner: Tensor, n: int, r: int, protected: int = 0) -> Match:
    """Return the match of the ``r`` best pairs of ``best_partners``."""
    order = best.argsort(dim=1, descending=True, stable=True)
    merged, remaining = order[:, :r], order[:, r:]
    remaining = remaining.sort(dim=1).values if protected else remaining
    targets = partner.gather(1, merged) * 2 + 1
    all_odd = torch.arange(1, n, 2, device=best.device).expand(best.shape[0], -1)
    first_even, first_odd = (protected + 1) // 2, protected // 2
    parts = [remaining[:, first_even:] * 2, all_odd[:, first_odd:]]
    if protected:
        parts.insert(0, torch.arange(protected, device=best.device).expand(best.shape[0], -1))
    return Match(torch.cat(parts, dim=1), merged * 2, targets)


@torch.no_grad()
def energies(tokens: Tensor, margin: float, alpha: float = 1.0) -> Tensor:
    """Return the energy of each token (PiToMe, eq. 4), (B, n): high where many others are similar to it.

    The mean over all tokens of ELU(cosine - margin), as in the released code; the paper has the cosine itself above the
    margin.

    Args:
        tokens: (B, n, D) unit vectors.
        margin: similarity above which a token counts in full.
        alpha: weight of tokens below the margin.
    """
    batch, n, _ = tokens.shape
    found = [
        _energy(cosines(tokens[images, rows], tokens[images]), margin, alpha) for images, rows in strips(batch, n, n)
    ]
    return joined(found, batch, n)


def _energy(similarity: Tensor, margin: float, alpha: float) -> Tensor:
    return F.elu(similarity - margin, alpha).mean(dim=2)


@torch.no_grad()
def energy_matching(
    metric: Tensor, r: int, margin: float, protect_unique: bool = True, alpha: float = 1.0, protected: int = 0
) -> Match:
    """Match tokens of high energy with each other (PiToMe, section 3.2).

    Tokens are ranked by falling energy; those at even ranks are merged into those at odd ranks.

    Args:
        metric: (B, n, D), compared by cosine similarity.
        r: number of pairs, at most ``max_merged(n, protected)``.
        margin: see ``energies``.
        protect_unique: only the first 2r ranks take part, and each token at an even rank is merged. Otherwise all ranks
            take part, and the r best pairs are merged.
        alpha: see ``energies``.
        protected: number of tokens at the start of each image that are neither ranked nor merged.

    Returns:
        The match; ``rows`` keeps the order of the tokens.
    """
    tokens = unit(metric[:, protected:])
    batch, n, _ = tokens.shape
    # Where all similarities of an image are in memory at once, they are computed once.
    groups = [images for images, rows in strips(batch, n, n) if not rows.start]
    pairs = [_energy_pairs(tokens[images], r, margin, protect_unique, alpha) for images in groups]
    sources, targets = (torch.cat(part) + protected for part in zip(*pairs, strict=True))
    gone = torch.zeros(metric.shape[:2], dtype=torch.bool, device=metric.device).scatter(1, sources, True)
    rows = gone.byte().argsort(dim=1, stable=True)[:, : metric.shape[1] - r]
    return Match(rows, sources, targets)


def _energy_pairs(tokens: Tensor, r: int, margin: float, protect_unique: bool, alpha: float) -> tuple[Tensor, Tensor]:
    n = tokens.shape[1]
    similarity = cosines(tokens, tokens) if fits(n, n) else None
    energy = energies(tokens, margin, alpha) if similarity is None else _energy(similarity, margin, alpha)
    order = energy.argsort(dim=1, descending=True, stable=True)
    order = order[:, : 2 * r] if protect_unique else order
    even, odd = order[:, ::2], order[:, 1::2]
    if similarity is None:
        best, partner = best_match(_rows(tokens, even), _rows(tokens, odd))
    else:
        similarity = _rows(similarity, even)
        best, partner = similarity.gather(2, odd[:, None].expand(-1, even.shape[1], -1)).max(dim=2)
    if not protect_unique:
        merged = best.argsort(dim=1, descending=True, stable=True)[:, :r]
        even, partner = even.gather(1, merged), partner.gather(1, merged)
    return even, odd.gather(1, partner)


def _rows(values: Tensor, places: Tensor) -> Tensor:
    """Return the rows ``places`` (B, m) of ``values`` (B, n, D) in each image."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[2]))
