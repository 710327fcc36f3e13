"""How many tokens each image of a batch has.

Shapes: B images, n tokens of one image, T packed tokens of the whole batch (image after image).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor

from .rounding import rounded


@dataclass(frozen=True, eq=False)
class Counts(Sequence[int]):
    """Number of tokens of each image; a sequence of B ints, equal to every sequence of the same numbers.

    Where all images have the same number, B is never expanded into a tuple, so that it may be a symbol of
    ``torch.export``, which gives a graph for any batch. ``len``, indexing and iteration need numbers.

    Attributes:
        batch: B.
        each: n of every image; None where images differ.
        numbers: n of each image where they differ, else None.
    """

    batch: int
    each: int | None
    numbers: tuple[int, ...] | None = None

    @classmethod
    def equal(cls, each: int, batch: int) -> Counts:
        """Return ``each`` tokens for every image."""
        return cls(batch, each)

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Counts:
        """Return the numbers of tokens of each image, as Counts."""
        if isinstance(numbers, Counts):
            return numbers
        numbers = tuple(numbers)
        if len(set(numbers)) > 1:
            return cls(len(numbers), None, numbers)
        return cls(len(numbers), numbers[0] if numbers else 0)

    @property
    def total(self) -> int:
        """T."""
        return sum(self) if self.each is None else self.batch * self.each

    @property
    def most(self) -> int:
        """The largest n."""
        return max(self) if self.each is None else self.each

    def plus(self, number: int) -> Counts:
        """Return the counts of images that have ``number`` more tokens each."""
        if self.each is None:
            return Counts.of([n + number for n in self])
        return Counts(self.batch, self.each + number)

    def share(self, ratio: float) -> Counts:
        """Return a share of each number, rounded."""
        if self.each is None:
            return Counts.of([rounded(ratio * n) for n in self])
        return Counts(self.batch, rounded(ratio * self.each))

    def need_each(self) -> int:
        """Return ``each``.

        Raises:
            ValueError: images have different numbers of tokens.
        """
        if self.each is None:
            raise ValueError(f"this needs the same number of tokens in every image, and they are {self.numbers}")
        return self.each

    def by_image(self, values: Tensor) -> Tensor:
        """Return per-token ``values`` (T, ...) as (B, n, ...).

        Raises:
            ValueError: images have different numbers of tokens.
        """
        return values.unflatten(0, (self.batch, self.need_each()))

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """Return the part (n, ...) of per-token ``values`` (T, ...) of each image."""
        return values.split(list(self))

    def groups(self, values: Tensor) -> list[Tensor]:
        """Return per-token ``values`` (T, ...) as (b, n, ...) of images with equal n: of all, or of each."""
        return [part[None] for part in self.split(values)] if self.each is None else [self.by_image(values)]

    def per_token(self, values: Tensor) -> Tensor:
        """Return the entry of its image in ``values`` (B, ...) for each token, (T, ...)."""
        if self.each is None:
            return values.repeat_interleave(self.tensor(values.device), 0, output_size=self.total)
        return values[:, None].expand(-1, self.each, *values.shape[1:]).flatten(0, 1)

    def tensor(self, device: torch.device) -> Tensor:
        """Return the numbers (B,) int64 on a device."""
        if self.each is None:
            return torch.tensor(self.numbers, device=device)
        return torch.full((self.batch,), self.each, device=device)

    def __len__(self) -> int:
        return self.batch

    def __iter__(self) -> Iterator[int]:
        return iter((self.each,) * self.batch if self.numbers is None else self.numbers)  # type: ignore[arg-type]

    @overload
    def __getitem__(self, image: int) -> int: ...
    @overload
    def __getitem__(self, image: slice) -> tuple[int, ...]: ...
    def __getitem__(self, image: Any) -> Any:
        return tuple(self)[image]

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))
