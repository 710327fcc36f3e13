"""A batch of token subsets: packed tokens, where each came from, and the way back to the map.

Shapes: B images, N positions of an image (P prefix tokens such as a class token, then the H x W grid, row-major),
T packed tokens of the whole batch (image after image), C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class TokenSet:
    """The tokens of a batch that are being worked on, and the map in which each has its place.

    A set is immutable: every method returns a new one. A set that holds every position is *full*; then ``x`` is the
    map itself, seen flat, and nothing is copied in ``restore``.

    Attributes:
        x: (T, C) values of the tokens in the set, image-major, ascending position inside an image.
        home: (B, N, C) values of all positions; at the positions in the set they are out of date.
        index: (T,) int64, flat position ``b * N + n`` of each token, or None in a full set. ``B * N`` marks unused rows
            at the end of a set of fixed capacity.
        counts: number of tokens of each image, any may be zero; None in a set of fixed capacity, where only the
            device knows.
        grid: (H, W).
        prefix: P, the number of prefix tokens; ``N = P + H * W``.
        offsets: (B + 2,) int32, where each image's tokens start, where the unused rows start, and T; only in a set of
            fixed capacity.
    """

    x: Tensor
    home: Tensor
    index: Tensor | None
    counts: tuple[int, ...] | None
    grid: tuple[int, int]
    prefix: int = 0
    offsets: Tensor | None = None

    @classmethod
    def full(cls, x: Tensor, grid: tuple[int, int], prefix: int = 0) -> TokenSet:
        """Every position of the map ``x`` (B, N, C).

        Raises:
            ValueError: N is not ``prefix + H * W``.
        """
        batch, positions, channels = x.shape
        if positions != prefix + grid[0] * grid[1]:
            raise ValueError(
                f"{positions} tokens do not fit a grid of {grid[0]} x {grid[1]} with {prefix} prefix tokens; "
                "pass the grid that the patch embedding gave")
        return cls(x.reshape(-1, channels), x, None, (positions,) * batch, tuple(grid), prefix)

    @property
    def batch(self) -> int:
        return self.home.shape[0]

    @property
    def positions(self) -> int:
        return self.home.shape[1]

    @property
    def is_full(self) -> bool:
        return self.index is None

    def select(self, keep: Tensor, counts: tuple[int, ...] | None = None) -> TokenSet:
        """The subset where ``keep`` (T,) is True. The others rest in the map with the values they have now.

        ``counts``: how many tokens ``keep`` has of each image, where that is known without asking the device; then
        nothing here waits for it.

        Raises:
            ValueError: this set has a fixed capacity, or ``counts`` are not those of ``keep`` (found out on CPU only).
        """
        self._need_counts("select")
        if counts is not None and not keep.is_cuda and not torch.compiler.is_compiling() and keep.sum() != sum(counts):
            raise ValueError(f"counts {counts} are {sum(counts)} tokens and keep has {int(keep.sum())}")
        if counts is None:
            rows = keep.nonzero().squeeze(1)
        else:
            rows = torch.nonzero_static(keep, size=sum(counts)).squeeze(1)
        index = rows if self.is_full else self.index[rows]
        if counts is None:
            image = index.div(self.positions, rounding_mode="floor")
            counts = tuple(torch.bincount(image, minlength=self.batch).tolist())
        return replace(self, x=self.x[rows], home=self.restore(), index=index, counts=counts)

    def select_at_most(self, keep: Tensor, capacity: int, score: Tensor) -> TokenSet:
        """The subset where ``keep`` (T,) is True, in ``capacity`` rows: no shape depends on data, nothing waits.

        If ``keep`` has more tokens than rows, those with the lowest ``score`` (T,) of the whole batch rest in the map
        like all that are not kept. Rows that are left over are zeros at the end.

        Raises:
            ValueError: this set is not full, or the capacity is more than it has.
        """
        everything = self.batch * self.positions
        if not self.is_full or capacity > everything:
            raise ValueError(f"a capacity of {capacity} tokens needs a full set of at least as many, and this one "
                             f"{'is not full' if not self.is_full else f'has {everything}'}")
        # Kept tokens stay above dropped ones, however low they score.
        lowest = torch.finfo(score.dtype).min
        best = score.clamp(min=lowest).masked_fill(~keep, -torch.inf).topk(capacity).indices
        index = torch.where(keep[best], best, everything).sort().values
        x = self.x[index.clamp(max=everything - 1)].masked_fill((index == everything)[:, None], 0)
        # Where each image starts among the sorted positions; the last of these is where the unused rows start.
        starts = torch.arange(self.batch + 1, device=index.device) * self.positions
        offsets = F.pad(torch.searchsorted(index, starts), (0, 1), value=capacity).to(torch.int32)
        return replace(self, x=x, home=self.restore(), index=index, counts=None, offsets=offsets)

    def restore(self) -> Tensor:
        """The whole map (B, N, C): the tokens of the set at their positions, all others as they rest."""
        if self.is_full:
            return self.x.view(self.home.shape)
        flat, x = self.home.flatten(0, 1), self.x.to(self.home.dtype)
        if self.counts is None:  # one more row takes what the unused rows hold
            flat = torch.cat([flat, x[:1]]).index_copy(0, self.index, x)[:-1]
        else:
            flat = flat.index_copy(0, self.index, x)
        return flat.view(self.home.shape)

    def refresh(self, home: Tensor) -> TokenSet:
        """The same positions with the values of a new map ``home`` (B, N, C)."""
        self._need_counts("refresh")
        flat = home.reshape(-1, home.shape[-1])
        return replace(self, x=flat if self.is_full else flat[self.index], home=home)

    def with_x(self, x: Tensor) -> TokenSet:
        """The same positions with new values ``x`` (T, C)."""
        return replace(self, x=x)

    def to_map(self, values: Tensor, fill: float = 0) -> Tensor:
        """Per-token ``values`` (T,) on the map (B, N), ``fill`` at positions outside the set."""
        self._need_counts("to_map")
        if self.is_full:
            return values.view(self.batch, self.positions)
        flat = values.new_full((self.batch * self.positions,), fill)
        return flat.index_copy(0, self.index, values).view(self.batch, self.positions)

    def members(self) -> Tensor:
        """(B, N) bool: which positions are in the set."""
        flat = torch.zeros(self.batch * self.positions + 1, dtype=torch.bool, device=self.x.device)
        flat = ~flat if self.is_full else flat.index_fill(0, self.index, True)
        return flat[:-1].view(self.batch, self.positions)

    def split_prefix(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Per-token ``values`` (T, ...) of the prefix tokens and of the grid tokens, each image after image."""
        if self.is_full:
            of_image = values.unflatten(0, (self.batch, self.positions))
            return of_image[:, :self.prefix].flatten(0, 1), of_image[:, self.prefix:].flatten(0, 1)
        prefix = self.is_prefix()
        return values[prefix], values[~prefix]

    def join_prefix(self, prefix: Tensor, grid: Tensor) -> Tensor:
        """The inverse of ``split_prefix`` for one value a token: (T,) in the order of the set."""
        if self.is_full:
            return torch.cat([part.view(self.batch, -1) for part in (prefix, grid)], dim=1).flatten()
        where = self.is_prefix()
        return grid.new_empty(len(where)).masked_scatter(where, prefix).masked_scatter(~where, grid)

    def is_prefix(self) -> Tensor:
        """(T,) bool: which tokens of the set are prefix tokens."""
        self._need_counts("is_prefix")
        index = torch.arange(len(self.x), device=self.x.device) if self.is_full else self.index
        return index % self.positions < self.prefix

    def _need_counts(self, what: str) -> None:
        if self.counts is None:
            raise ValueError(f"{what} is not for a set of fixed capacity; only run_block, restore and members are")
