"""Functions that turn scores into keep masks. Every function treats each image separately.

Shapes: T packed tokens, n tokens of one image, B images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from ..cache import cached_by_size
from ..counts import Counts
from ..errors import ExportError
from ..tokens import TokenSet


def counts_of(tokens: TokenSet) -> Counts:
    """Return the number of tokens of each image.

    Raises:
        ValueError: the set has a fixed capacity, so that the numbers are only known on the device.
    """
    if tokens.counts is None:
        raise ValueError("the number of tokens of each image is unknown in a set of fixed capacity; use an exact set")
    return tokens.counts


def equal_count(tokens: TokenSet) -> int:
    """Return the number of tokens that every image has.

    Raises:
        ValueError: images differ, or only the device knows.
    """
    return counts_of(tokens).need_each()


def rows_of(places: Tensor, tokens: TokenSet) -> Tensor:
    """Convert places (B, m) inside each image to rows (B * m,) of the set; all images have equally many tokens."""
    starts = torch.arange(tokens.batch, device=places.device) * equal_count(tokens)
    return (places + starts[:, None]).flatten()


def sort_rows(places: Tensor, tokens: TokenSet) -> Tensor:
    """Sort places (B, m) inside each image by ascending position in the dense map."""
    if tokens.index is None:
        return places.sort(dim=1).values
    positions = tokens.by_image(tokens.index).gather(1, places)
    return places.gather(1, positions.argsort(dim=1))


def keep_top(score: Tensor, counts: Counts, keep: Tensor | Sequence[int]) -> Tensor:
    """Return a mask of the ``keep[b]`` tokens with the highest scores in each image b.

    Of equal scores the earlier position is kept.

    Args:
        score: (T,).
        counts: number of tokens of each image.
        keep: numbers of tokens to keep, (B,) if it is a tensor, which stays on its device; a number above that of an
            image's tokens keeps all.

    Returns:
        (T,) bool.
    """
    if counts.each is None:
        parts = [_keep_top(part[None], k)[0] for part, k in zip(counts.split(score), keep, strict=True)]
        return torch.cat(parts)
    if isinstance(keep, Tensor):
        return _keep_top(counts.by_image(score), keep).flatten()
    numbers = Counts.of(keep)
    # One number for all images needs no tensor, whose creation would synchronize host and device.
    number = numbers.tensor(score.device) if numbers.each is None else numbers.each
    return _keep_top(counts.by_image(score), number).flatten()


def _keep_top(score: Tensor, keep: Tensor | int) -> Tensor:
    rank = ranks(score)
    return rank < (keep[:, None] if isinstance(keep, Tensor) and keep.dim() else keep)


def ranks(score: Tensor) -> Tensor:
    """Return the place of each token among those of its image by falling score (B, n), 0 for the highest."""
    order = score.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(score.shape[1], device=score.device).expand_as(order)
    # Into zeros and not in place: compiled graphs write no memory that they have not made.
    return torch.zeros_like(order).scatter(1, order, places)


def sum_per_image(values: Tensor, counts: Counts) -> Tensor:
    """Sum the packed ``values`` (T,) of each image, (B,)."""
    if counts.each is None:
        return torch.stack([part.sum() for part in counts.split(values)])
    return counts.by_image(values).sum(dim=1)


def gumbel_noise(rows: Counts, width: int, device: torch.device, seed: int | None = None) -> Tensor:
    """Draw standard Gumbel samples (T, width) for images of ``rows`` tokens each.

    With a ``seed`` every image gets the first rows of the same noise tensor, so that results do not depend on the
    batch; without a seed the noise comes from torch's global generator.

    Raises:
        ExportError: seeded noise, which a graph holds as a constant, for a free number of tokens.
    """
    if seed is None:
        return -torch.empty(rows.total, width, device=device).exponential_().log()
    if not isinstance(rows.most, int):
        raise ExportError(
            "torch.export with a free height and width cannot hold a random order, which has a number for each token: "
            "export a graph of each size"
        )
    one = _seeded_noise(rows.most, width, seed, device)
    if rows.each is not None:  # the slice, although it changes nothing, is what torch.compile needs
        return one[: rows.each].repeat(rows.batch, 1)
    return torch.cat([one[:n] for n in rows])


def gumbel_gate(logp: Tensor, noise: Tensor, tau: float = 1.0) -> Tensor:
    """Draw one-hot samples (T, K) from ``logp`` (T, K), with the gradient of their softmax (straight-through)."""
    soft = ((logp + noise) / tau).softmax(dim=-1)
    hard = F.one_hot(soft.argmax(dim=-1), soft.shape[-1]).to(soft.dtype)
    return hard - soft.detach() + soft


@torch.compiler.assume_constant_result
def _seeded_noise(rows: int, width: int, seed: int, device: torch.device) -> Tensor:
    return _draw(rows, width, seed, device)


@cached_by_size(512)  # every pruned block has its own noise for each number of tokens
def _draw(rows: int, width: int, seed: int, device: torch.device) -> Tensor:
    # On the CPU: equal numbers on every device. A tensor created in inference mode could not be used elsewhere, and
    # torch.export must not record the drawing.
    with torch.inference_mode(False), _disable_current_modes():
        generator = torch.Generator().manual_seed(seed)
        return -torch.empty(rows, width).exponential_(generator=generator).log().to(device)
