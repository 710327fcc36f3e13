"""A batch of token subsets: packed tokens, where each came from, and the way back to the map.

Shapes: B images, N positions of an image (P prefix tokens such as a class token, then the H x W grid, row-major),
T packed tokens of the whole batch (image after image), C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenSet:
    """The tokens of a batch that are being worked on, and the map in which each has its place.

    A set is immutable: every method returns a new one. A set that holds every position is *full*; then ``x`` is the
    map itself, seen flat, and nothing is copied in ``restore``.

    Attributes:
        x: (T, C) values of the tokens in the set, image-major, ascending position inside an image.
        home: (B, N, C) values of all positions; at the positions in the set they are out of date.
        index: (T,) int64, flat position ``b * N + n`` of each token, or None in a full set.
        counts: number of tokens of each image; any may be zero.
        grid: (H, W).
        prefix: P, the number of prefix tokens; ``N = P + H * W``.
    """

    x: Tensor
    home: Tensor
    index: Tensor | None
    counts: tuple[int, ...]
    grid: tuple[int, int]
    prefix: int = 0

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

    def select(self, keep: Tensor) -> TokenSet:
        """The subset where ``keep`` (T,) is True. The others rest in the map with the values they have now."""
        rows = keep.nonzero().squeeze(1)
        index = rows if self.is_full else self.index[rows]
        image = index.div(self.positions, rounding_mode="floor")
        counts = tuple(torch.bincount(image, minlength=self.batch).tolist())
        return replace(self, x=self.x[rows], home=self.restore(), index=index, counts=counts)

    def restore(self) -> Tensor:
        """The whole map (B, N, C): the tokens of the set at their positions, all others as they rest."""
        if self.is_full:
            return self.x.view(self.home.shape)
        flat = self.home.flatten(0, 1)
        return flat.index_copy(0, self.index, self.x.to(flat.dtype)).view(self.home.shape)

    def refresh(self, home: Tensor) -> TokenSet:
        """The same positions with the values of a new map ``home`` (B, N, C)."""
        flat = home.reshape(-1, home.shape[-1])
        return replace(self, x=flat if self.is_full else flat[self.index], home=home)

    def with_x(self, x: Tensor) -> TokenSet:
        """The same positions with new values ``x`` (T, C)."""
        return replace(self, x=x)

    def to_map(self, values: Tensor, fill: float = 0) -> Tensor:
        """Per-token ``values`` (T,) on the map (B, N), ``fill`` at positions outside the set."""
        if self.is_full:
            return values.view(self.batch, self.positions)
        flat = values.new_full((self.batch * self.positions,), fill)
        return flat.index_copy(0, self.index, values).view(self.batch, self.positions)

    def is_prefix(self) -> Tensor:
        """(T,) bool: which tokens of the set are prefix tokens."""
        index = torch.arange(len(self.x), device=self.x.device) if self.is_full else self.index
        return index % self.positions < self.prefix
