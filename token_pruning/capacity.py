"""Token sets of fixed capacity, whose shapes do not depend on data: for CUDA graphs, compiled and exported models.

Shapes: B images, N positions of an image, T packed tokens, R rows of a set of fixed capacity.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .tokens import TokenSet


def select_at_most(tokens: TokenSet, keep: Tensor, capacity: int, score: Tensor) -> TokenSet:
    """Return the subset of a full set where ``keep`` (T,) is True, in R rows: ``capacity``, but at most T.

    Nothing synchronizes with the device. If ``keep`` has more tokens than rows, those with the lowest ``score`` (T,) of
    the whole batch are dropped as well. Unused rows are zeros at the end.

    Raises:
        ValueError: the set is not full.
    """
    if not tokens.is_full:
        raise ValueError("a fixed capacity needs a full set, and some tokens of this one were dropped or merged")
    everything = tokens.batch * tokens.positions
    # Not min(): torch.export cannot prove that the smaller one of two symbols is at most the other.
    rows = capacity if capacity <= everything else everything
    # Kept tokens stay above dropped ones, however low they score.
    lowest = torch.finfo(score.dtype).min
    best = score.clamp(min=lowest).masked_fill(~keep, -torch.inf).topk(rows).indices
    index = torch.where(keep[best], best, everything).sort().values
    x = tokens.x[index.clamp(max=everything - 1)].masked_fill((index == everything)[:, None], 0)
    # Where each image starts among the sorted positions, where the unused rows start, and R.
    starts = torch.arange(tokens.batch + 2, device=index.device) * tokens.positions
    offsets = torch.searchsorted(index, starts).to(torch.int32)
    return replace(tokens, x=x, dense=tokens.restore(), index=index, counts=None, offsets=offsets)
