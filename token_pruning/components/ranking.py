"""Pure functions that turn scores into masks. Every one treats each image for itself.

Shapes: T packed tokens, n tokens of one image, B images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tokens import TokenSet


def rows_of(places: Tensor, tokens: TokenSet) -> Tensor:
    """Places (B, m) inside images of equally many tokens as rows (B * m,) of the set."""
    starts = torch.arange(tokens.batch, device=places.device) * tokens.counts[0]
    return (places + starts[:, None]).flatten()


def sort_rows(places: Tensor, tokens: TokenSet) -> Tensor:
    """Places (B, m) of each image by ascending position on the map."""
    if tokens.is_full:
        return places.sort(dim=1).values
    places_in_map = tokens.by_image(tokens.index).gather(1, places)
    return places.gather(1, places_in_map.argsort(dim=1))


def keep_top(score: Tensor, counts: tuple[int, ...], keep: Tensor | Sequence[int]) -> Tensor:
    """The ``keep[b]`` best tokens of each image b; of equal scores the earlier position wins.

    Args:
        score: (T,) higher is better.
        counts: number of tokens of each image.
        keep: B numbers, how many to keep; more than there are keeps all. A tensor stays on its device.

    Returns:
        (T,) bool.
    """
    if not counts:
        return score.new_zeros(0, dtype=torch.bool)
    if len(set(counts)) == 1:
        if not isinstance(keep, Tensor):  # one number for all needs no tensor, whose making would stop the host
            keep = keep[0] if len(set(keep)) == 1 else torch.tensor(keep, device=score.device)
        return _keep_top(score.view(len(counts), -1), keep).flatten()
    parts = [_keep_top(part[None], k)[0] for part, k in zip(score.split(counts), keep, strict=True)]
    return torch.cat(parts)


def _keep_top(score: Tensor, keep: Tensor | int) -> Tensor:
    order = score.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(score.shape[1], device=score.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    return rank < (keep[:, None] if isinstance(keep, Tensor) and keep.dim() else keep)


def sum_per_image(values: Tensor, counts: tuple[int, ...]) -> Tensor:
    """(B,) sums of the packed ``values`` (T,)."""
    if not counts:
        return values.new_zeros(0)
    if len(set(counts)) == 1:
        return values.view(len(counts), -1).sum(dim=1)
    return torch.stack([part.sum() for part in values.split(counts)])


def gumbel_noise(rows: tuple[int, ...], width: int, device: torch.device, seed: int | None = None) -> Tensor:
    """Standard Gumbel samples (T, width) for images of ``rows`` tokens each.

    With a ``seed`` every image gets the first rows of one and the same field of noise, whatever batch it stands in, so
    that a batch equals singles; without, the noise comes from torch's global generator.
    """
    if seed is None or not rows:
        return -torch.empty(sum(rows), width, device=device).exponential_().log()
    one = _seeded_noise(max(rows), width, seed, device)
    return torch.cat([one[:n] for n in rows])


def gumbel_gate(logp: Tensor, noise: Tensor, tau: float = 1.0) -> Tensor:
    """One-hot samples (T, K) of log-probabilities ``logp`` with the gradient of their softmax (straight through)."""
    soft = ((logp + noise) / tau).softmax(dim=-1)
    hard = F.one_hot(soft.argmax(dim=-1), soft.shape[-1]).to(soft.dtype)
    return hard - soft.detach() + soft


@torch.compiler.assume_constant_result
def _seeded_noise(rows: int, width: int, seed: int, device: torch.device) -> Tensor:
    return _draw(rows, width, seed, device)


@cache  # without limit: a captured CUDA graph reads these small tensors for as long as it lives
def _draw(rows: int, width: int, seed: int, device: torch.device) -> Tensor:
    # On the CPU: the same numbers on every device. A tensor made in inference mode could not be used elsewhere.
    with torch.inference_mode(False):
        generator = torch.Generator().manual_seed(seed)
        return -torch.empty(rows, width).exponential_(generator=generator).log().to(device)
