"""Cosine similarities in strips, so that no matrix of all pairs of tokens is in memory.

Everything here is in single precision, with autocast off and without gradients: in half precision many similarities
would tie. A strip holds all columns of its rows, so its maxima are exact and the first index wins ties.

Shapes: B images, n and m tokens of each, D channels of the metric.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    return torch.compiler.is_exporting() or n * m <= STRIP


def strips(batch: int, n: int, m: int) -> list[tuple[slice, slice]]:
    """Return images and rows of every strip of similarities (B, n, m): several images, or some rows of one image.

    One after the other, the strips are the whole in row-major order. An exported graph, whose number of images is open,
    has a single one.
    """
    if torch.compiler.is_exporting():
        return [(slice(None), slice(0, n))]
    images = max(STRIP // max(n * m, 1), 1)
    rows = n if fits(n, m) else max(STRIP // m, 1)
    return [
        (slice(image, image + images), slice(row, row + rows))
        for image in range(0, max(batch, 1), images)
        for row in range(0, n, max(rows, 1))
    ]


def joined(parts: Sequence[Tensor], batch: int, n: int) -> Tensor:
    """Return the values (B, n) of all ``strips``, whose rows they are given for."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat([part.flatten() for part in parts]).view(batch, n)


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
    if not columns.shape[1]:
        return rows.new_full((batch, n), -torch.inf), torch.zeros(batch, n, dtype=torch.int64, device=rows.device)
    found = []
    for images, part in strips(batch, n, columns.shape[1]):
        similarity = cosines(rows[images, part], columns[images])
        if others:
            similarity.diagonal(part.start, 1, 2).fill_(-torch.inf)
        found.append(similarity.max(dim=2))
    best, column = (joined(parts, batch, n) for parts in zip(*found, strict=True))
    return best, column
