"""Merge neighbours of a grid of tokens so that the result is a smaller grid.

"CubistMerge: Spatial-Preserving Token Merging For Diverse ViT Backbones", 2025, sections 3.2 to 3.4.

Shapes: B images, H x W grid, h x w smaller grid, L lines (rows or columns) of n tokens, r tokens of each line to merge
away, C channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

RULES = ("released", "group")


class LineMatch(NamedTuple):
    """Which tokens of each line are merged, as places inside the line.

    Attributes:
        sources: (L, r) the tokens that are merged away, by falling similarity.
        targets: (L, r) the neighbour of each source that represents it from now on.
    """

    sources: Tensor
    targets: Tensor


class GridMerge(NamedTuple):
    """Result of merging a grid.

    Attributes:
        x: (B, h * w, C) values of the smaller grid, row-major.
        rows: (B, h * w) the place on the H x W grid of the token that each of them was.
        place: (B, H * W) the place on the smaller grid that represents each place.
        grid: (h, w).
    """

    x: Tensor
    rows: Tensor
    place: Tensor
    grid: tuple[int, int]


def match_lines(x: Tensor, r: int) -> LineMatch:
    """Match the ``r`` tokens at odd places of each line ``x`` (L, n, C) that are most similar to a neighbour.

    A token at an odd place may join its left or its right neighbour, the one with the larger cosine similarity; of
    equals the left. At most n // 2 tokens can be merged away.
    """
    x = F.normalize(x.detach().float(), dim=-1)
    similarity = (x[:, :-1] * x[:, 1:]).sum(-1)  # of places i and i + 1
    left, right = similarity[:, ::2], similarity[:, 1::2]
    right = F.pad(right, (0, left.shape[1] - right.shape[1]), value=-torch.inf)  # the last place may have none
    to_right = right > left
    order = torch.where(to_right, right, left).argsort(dim=1, descending=True, stable=True)[:, :r]
    sources = 2 * order + 1
    return LineMatch(sources, sources + torch.where(to_right.gather(1, order), 1, -1))


def merge_lines(x: Tensor, match: LineMatch, rule: str) -> Tensor:
    """Return lines ``x`` (L, n, C) in which each target has the values of largest magnitude, channel by channel.

    Args:
        rule: "group": of the target and all its sources (the paper's eq. 5); "released": as the released code computes
            it, of the target and one source: where two sources share a target, that of odd rank in ``match``, or the
            last.
    """
    lines, n, channels = x.shape
    rank = torch.arange(match.sources.shape[1], device=x.device).expand_as(match.sources)
    nobody = torch.full((lines, n + 1), -1, device=x.device)
    # Rank of the source at the left and at the right of each place that joins it; -1 for none.
    joins_right = match.targets > match.sources
    ranks = [
        nobody.scatter(1, torch.where(side, match.targets, n), rank)[:, :n] for side in (joins_right, ~joins_right)
    ]
    if rule == "released":  # even ranks are written first, so odd ones stay
        order = [place % 2 * n + place for place in ranks]
        wins = (ranks[0] >= 0) & ((ranks[1] < 0) | (order[0] > order[1]))
        ranks = [ranks[0].where(wins, -1), ranks[1].where(~wins, -1)]
    out = x
    for joined, source in zip(ranks, (x.roll(1, dims=1), x.roll(-1, dims=1)), strict=True):
        # A NaN is larger than everything: it may not vanish in a neighbour.
        larger = (joined >= 0)[..., None] & ((source.abs() > out.abs()) | source.isnan())
        out = torch.where(larger, source, out)
    return out


def merge_grid(
    x: Tensor, grid: tuple[int, int], r: tuple[int, int], rule: str = "released", window: int | None = None
) -> GridMerge:
    """Merge the tokens ``x`` (B, H * W, C) of a ``grid`` (H, W), first along its rows, then along its columns.

    Args:
        r: number of rows and of columns that go; at most half of them go.
        rule: see ``merge_lines``.
        window: side of the windows of the grid, which then lose ``r`` rows and columns each; groups stay inside a
            window. A window that the edge cuts off loses at most half of its lines.
    """
    high, wide = grid
    values, kept_w, to_w = _merge_axis(x.unflatten(1, grid), r[1], rule, window)
    values, kept_h, to_h = _merge_axis(values.transpose(1, 2), r[0], rule, window)
    values, kept_h = values.transpose(1, 2), kept_h.transpose(1, 2)  # (B, h, w)
    small = (values.shape[1], values.shape[2])
    # Which column each token of the smaller grid had, in the row that it comes from.
    column = kept_w.gather(1, kept_h)
    # Which row of the smaller grid each place has now, in the column that it joined.
    row = to_h.transpose(1, 2).gather(2, to_w)
    return GridMerge(
        values.flatten(1, 2), (kept_h * wide + column).flatten(1), (row * small[1] + to_w).flatten(1), small
    )


def lines_left(n: int, r: int, window: int | None = None) -> int:
    """Return how many of ``n`` rows or columns remain."""
    return sum(size - min(r, size // 2) for size in _spans(n, window))


def _spans(n: int, window: int | None) -> list[int]:
    if window is None:
        return [n]
    whole, rest = divmod(n, window)
    return [window] * whole + [rest] * bool(rest)


def _merge_axis(x: Tensor, r: int, rule: str, window: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Merge along the lines of ``x`` (B, R, n, C).

    Returns:
        The values (B, R, m, C), which place each had (B, R, m), and where each place is now (B, R, n).
    """
    n = x.shape[2]
    if window is None:
        return _merge_windows(x, r, rule, n)
    size = min(window, n)
    edge = n // size * size
    parts = [_merge_windows(part, r, rule, size) for part in (x[:, :, :edge], x[:, :, edge:]) if part.shape[2]]
    if len(parts) == 1:
        return parts[0]
    first, last = parts
    moved = (last[0], last[1] + edge, last[2] + first[0].shape[2])
    values, kept, to = (torch.cat(pair, dim=2) for pair in zip(first, moved, strict=True))
    return values, kept, to


def _merge_windows(x: Tensor, r: int, rule: str, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Merge along lines that are whole windows of ``size``, or one shorter one."""
    batch, rows, n, _ = x.shape
    size = min(size, n)
    r = min(r, size // 2)
    lines = x.reshape(-1, size, x.shape[3])
    places = torch.arange(size, device=x.device).expand(lines.shape[0], -1)
    if r:
        match = match_lines(lines, r)
        merged = places.new_zeros(places.shape, dtype=torch.bool).scatter(1, match.sources, True)
        kept = merged.to(torch.uint8).argsort(dim=1, stable=True)[:, : size - r]
        number = (~merged).cumsum(1) - 1
        to = number.scatter(1, match.sources, number.gather(1, match.targets))
        lines = merge_lines(lines, match, rule).gather(1, kept[..., None].expand(-1, -1, lines.shape[2]))
    else:
        kept = to = places
    start = torch.arange(n // size, device=x.device)[:, None]

    def of_lines(part: Tensor, offset: Tensor | int = 0) -> Tensor:
        return (part.reshape(batch, rows, -1, *part.shape[1:]) + offset).flatten(2, 3)

    return of_lines(lines), of_lines(kept, start * size), of_lines(to, start * (size - r))
