"""Cosine similarities in strips, so that no matrix of all pairs of tokens is in memory.

Everything here is in single precision, with autocast off and without gradients: in half precision many similarities
would tie. A strip holds all columns of its rows, so its maxima are exact and the first index wins ties.

Shapes: B images, n and m tokens of each, D channels of the metric.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STRIP = 2**22  # similarities that are in memory at a time (16 MiB)


def unit(metric: Tensor) -> Tensor:
    """Return the vectors ``metric`` (..., D) with length one, in single precision and detached."""
    return F.normalize(metric.detach().float(), dim=-1)


def cosines(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the products (B, n, m) of unit vectors (B, n, D) and (B, m, D)."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ columns.transpose(1, 2)


def fits(n: int, m: int) -> bool:
    """Return whether the similarities of n and m tokens of one image are few enough to be in memory at once."""
    return n * m <= STRIP


def strips(batch: int, n: int, m: int) -> list[tuple[slice, slice]]:
    """Return images and rows of every strip of similarities (B, n, m): several images, or some rows of one image."""
    images = max(STRIP // max(n * m, 1), 1)
    rows = n if fits(n, m) else max(STRIP // m, 1)
    return [
        (slice(image, image + images), slice(row, row + rows))
        for image in range(0, batch, images)
        for row in range(0, n, max(rows, 1))
    ]


@torch.no_grad()
def best_match(rows: Tensor, columns: Tensor, others: bool = False) -> tuple[Tensor, Tensor]:
    """Return the largest cosine of each row, (B, n), and its column, (B, n) int64.

    Args:
        rows: (B, n, D) unit vectors.
        columns: (B, m, D) unit vectors. Without any, the cosines are minus infinity and the columns 0.
        others: ``rows`` and ``columns`` are the same tokens, and a token is not compared with itself. A single token
            gets itself, at minus infinity.
    """
    batch, n, _ = rows.shape
    best = rows.new_full((batch, n), -torch.inf)
    column = torch.zeros(batch, n, dtype=torch.int64, device=rows.device)
    for images, part in strips(batch, n, columns.shape[1]) if columns.shape[1] else ():
        similarity = cosines(rows[images, part], columns[images])
        if others:
            similarity.diagonal(part.start, 1, 2).fill_(-torch.inf)
        best[images, part], column[images, part] = similarity.max(dim=2)
    return best, column
