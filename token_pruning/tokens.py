"""A batch of token subsets: packed tokens, the position of each, and the way back to the dense map.

Shapes: B images, N positions of an image (P prefix tokens such as a class token, then the H x W grid, row-major),
T packed tokens of the whole batch (image after image), C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .counts import Counts
from .errors import ExportError


def feature_map(sequence: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return tokens (B, H * W, C) of a grid (H, W) as a feature map (B, C, H, W), a view with its channels last.

    ``transpose`` and ``unflatten`` give the same map, but for one image a stride by which PyTorch does not recognise
    the layout: it then copies the map before every convolution.
    """
    return sequence.unflatten(1, grid).permute(0, 3, 1, 2)


class SubGrid(NamedTuple):
    """The smaller grid that the tokens of every image form after each row and each column lost equally many.

    Attributes:
        grid: (h, w); the grid tokens of the set are in row-major order, after the prefix tokens.
        window: side of the windows of the map's grid that were reduced one by one; None if the grid was reduced as one.
        window_shape: rows and columns of a whole window of the smaller grid; without windows, ``grid``.
    """

    grid: tuple[int, int]
    window: int | None
    window_shape: tuple[int, int]


@dataclass(frozen=True)
class TokenSet:
    """The active tokens of a batch and the dense map that holds a value for every position.

    A set is immutable: every method returns a new one. A set that holds every position is *full*; then ``x`` is a flat
    view of the map, and ``restore`` copies nothing. A token may represent several positions (a *merged* token): each of
    them then has its value.

    Attributes:
        x: (T, C) values of the active tokens, image after image; within an image by ascending position, unless a
            method has reordered them.
        dense: (B, N, C) values of all positions; stale at active and pending tokens until ``restore``.
        index: (T,) int64, flat position ``b * N + n`` of each token, or None in a full set. ``B * N`` marks unused rows
            at the end of a set of fixed capacity.
        counts: number of tokens of each image, which may be zero; None in a set of fixed capacity, where only the
            device knows it.
        grid: (H, W).
        prefix: P, the number of prefix tokens; ``N = P + H * W``.
        late: how many of the prefix tokens entered with ``prepend``: they are the first ones, before the class token.
        offsets: (B + 2,) int32, where each image's tokens start, where the unused rows start, and T; only in a set of
            fixed capacity.
        size: (T,) float, the weight of each token in averages and in proportional attention; None for 1 each.
        assignment: (B * N,) int64, the flat position of the token that represents each position; None if every
            position represents itself.
        pending: index (S,) and values (S, C) of dropped tokens that are not written into ``dense`` yet.
        subgrid: the smaller grid that the tokens form; None in a full set, and where they form none.
    """

    x: Tensor
    dense: Tensor
    index: Tensor | None
    counts: Counts | None
    grid: tuple[int, int]
    prefix: int = 0
    offsets: Tensor | None = None
    size: Tensor | None = None
    assignment: Tensor | None = None
    pending: tuple[tuple[Tensor, Tensor], ...] = ()
    subgrid: SubGrid | None = None
    late: int = 0

    @classmethod
    def full(cls, x: Tensor, grid: tuple[int, int], prefix: int = 0) -> TokenSet:
        """Return the full set of the map ``x`` (B, N, C).

        Raises:
            ValueError: N is not ``prefix + H * W``.
        """
        batch, positions, channels = x.shape
        if positions != prefix + grid[0] * grid[1]:
            raise ValueError(
                f"{positions} tokens do not fit a grid of {grid[0]} x {grid[1]} with {prefix} prefix tokens; "
                "pass the grid that the patch embedding gave"
            )
        return cls(x.reshape(-1, channels), x, None, Counts.equal(positions, batch), (grid[0], grid[1]), prefix)

    def filled(self) -> TokenSet:
        """Return the full set of the restored map: every position becomes a token of its own again."""
        return replace(TokenSet.full(self.restore(), self.grid, self.prefix), late=self.late)

    @property
    def batch(self) -> int:
        """B."""
        return self.dense.shape[0]

    @property
    def positions(self) -> int:
        """N."""
        return self.dense.shape[1]

    @property
    def is_full(self) -> bool:
        """Whether every position is active."""
        return self.index is None

    def by_image(self, values: Tensor) -> Tensor:
        """Return per-token ``values`` (T, ...) as (B, n, ...).

        Raises:
            ValueError: images have different numbers of tokens.
        """
        if self.counts is None:
            raise ValueError("this needs the same number of tokens in every image, and only the device knows them")
        return self.counts.by_image(values)

    def select(self, keep: Tensor, counts: Sequence[int] | None = None) -> TokenSet:
        """Return the subset where ``keep`` (T,) is True; the others keep their current value in the dense map.

        Args:
            counts: number of kept tokens of each image, where the host knows it; then nothing synchronizes with the
                device.

        Raises:
            ValueError: this set has a fixed capacity, or ``counts`` do not match ``keep`` (checked on CPU only).
            ExportError: ``counts`` are None under ``torch.export``.
        """
        self._need_counts("select")
        if counts is None:
            if torch.compiler.is_exporting():
                raise ExportError(
                    "torch.export needs a number of tokens that does not depend on the images: let the method pass "
                    "`counts`, or decide in `before_block` with a score and execution='capacity'"
                )
            rows = keep.nonzero().squeeze(1)
            image = self.images().index_select(0, rows)
            return self.take(rows, torch.bincount(image, minlength=self.batch).tolist())
        counts = Counts.of(counts)
        if not keep.is_cuda and not torch.compiler.is_compiling() and keep.sum() != counts.total:
            raise ValueError(f"counts {tuple(counts)} are {counts.total} tokens and keep has {int(keep.sum())}")
        return self.take(torch.nonzero_static(keep, size=counts.total).squeeze(1), counts)

    def take(self, rows: Tensor, counts: Sequence[int], others: Tensor | None = None) -> TokenSet:
        """Return the tokens ``rows`` (T',) in that order; the others keep their current value in the dense map.

        Args:
            rows: rows of this set, image after image.
            counts: number of ``rows`` of each image.
            others: all other rows, where they are known. The map is then not copied here; the dropped tokens are
                pending until ``restore``.
        """
        size = None if self.size is None else self.size[rows]
        kept = replace(self, counts=Counts.of(counts), size=size, subgrid=None)
        if others is None:
            return replace(kept, x=self.x[rows], dense=self.restore(), pending=(), index=self._index()[rows])
        order, number = torch.cat([rows, others]), rows.shape[0]
        x, index = self.x[order], order if self.index is None else self.index[order]
        return replace(kept, x=x[:number], index=index[:number], pending=(*self.pending, (index[number:], x[number:])))

    def assign(
        self, rows: Tensor, counts: Sequence[int], x: Tensor, size: Tensor | None, sources: Tensor, targets: Tensor
    ) -> TokenSet:
        """Return the tokens ``rows`` (T',) with values ``x`` (T', C), which also represent the positions of others.

        Args:
            rows: rows of this set, image after image.
            counts: number of ``rows`` of each image.
            x: (T', C) the new values.
            size: (T',) of the new tokens, or None.
            sources: (S,) all rows of this set that are not in the new one, and any that are, as their own target.
            targets: (S,) the row that represents the positions of each source from now on; a source that is its own
                target keeps the value that ``dense`` has for it.
        """
        index = self._index()
        assignment = torch.arange(self.batch * self.positions, device=index.device)
        assignment = assignment.index_copy(0, index[sources], index[targets])
        return replace(
            self,
            x=x,
            index=index[rows],
            counts=Counts.of(counts),
            size=size,
            assignment=assignment if self.assignment is None else assignment[self.assignment],
            subgrid=None,
        )

    def merge(
        self, rows: Tensor, counts: Sequence[int], sources: Tensor, targets: Tensor, joins: Tensor | None = None
    ) -> TokenSet:
        """Merge ``sources`` into ``rows``: each row becomes the mean, weighted by size, of itself and its sources.

        Args:
            rows: rows of this set that stay, image after image.
            counts: number of ``rows`` of each image.
            sources: (S,) all other rows of this set.
            targets: (S,) the row that each source is merged into.
            joins: (S,) bool, which sources are merged; the others keep their value in the dense map. None for all.
        """
        size = self.sizes()
        place = torch.zeros_like(size, dtype=torch.int64).index_copy(
            0, rows, torch.arange(rows.shape[0], device=rows.device)
        )[targets]  # of each target among the rows
        given, base = size[sources], self
        if joins is not None:
            given = given * joins
            targets = torch.where(joins, targets, sources)
            base = replace(self, dense=self.restore(), pending=())
        total = size[rows].index_add(0, place, given)
        # Weights that sum to one, rather than a sum to be divided: no overflow in half precision.
        x = self.x[rows] * (size[rows] / total)[:, None].to(self.x.dtype)
        x.index_add_(0, place, self.x[sources] * (given / total[place])[:, None].to(self.x.dtype))
        return base.assign(rows, counts, x, total, sources, targets)

    def with_subgrid(self, subgrid: SubGrid | None) -> TokenSet:
        """Return the same tokens, which form the smaller grid ``subgrid``; None if they form none."""
        return replace(self, subgrid=subgrid)

    def with_sizes(self, size: Tensor | None) -> TokenSet:
        """Return the same tokens with sizes ``size`` (T,); None for 1 each."""
        return replace(self, size=size)

    def sizes(self) -> Tensor:
        """Return ``size`` (T,), or ones in single precision where it is None."""
        return self.x.new_ones(self.x.shape[0], dtype=torch.float32) if self.size is None else self.size

    def restore(self) -> Tensor:
        """Return the up-to-date map (B, N, C): active and pending tokens are written to their positions."""
        if self.index is None:
            return self.x.view(self.dense.shape)
        flat, index, x = self.dense.flatten(0, 1), self.index, self.x.to(self.dense.dtype)
        if self.pending:
            index = torch.cat([index, *(index for index, _ in self.pending)])
            x = torch.cat([x, *(dropped.to(x.dtype) for _, dropped in self.pending)])
        if self.counts is None:  # one extra row takes the values of unused rows
            flat = torch.cat([flat, x[:1]]).index_copy(0, index, x)[:-1]
        else:
            flat = flat.index_copy(0, index, x)
        return (flat if self.assignment is None else flat[self.assignment]).view(self.dense.shape)

    def with_dense(self, dense: Tensor) -> TokenSet:
        """Return the same tokens with the values of a new map ``dense`` (B, N, C).

        A merged token gets the mean over its positions. Positions whose token was dropped represent themselves again.
        """
        self._need_counts("with_dense")
        flat = dense.reshape(-1, dense.shape[-1])
        if self.index is None:
            return replace(self, x=flat, dense=dense)
        if self.assignment is None:
            return replace(self, x=flat[self.index], dense=dense, pending=())
        assignment = self._live_assignment()
        return replace(
            self, x=self._mean(flat, assignment).to(flat.dtype), dense=dense, assignment=assignment, pending=()
        )

    def mean_of_positions(self, values: Tensor) -> Tensor:
        """Return the mean (T, ...) of a map ``values`` (B, N, ...) over the positions that each token represents.

        In single precision where tokens are merged, because one may represent more positions than half precision can
        count.
        """
        if self.assignment is None:
            return self.from_map(values)
        return self._mean(values.flatten(0, 1), self._live_assignment())

    def _live_assignment(self) -> Tensor:
        """Return ``assignment`` with the positions whose token was dropped representing themselves."""
        assert self.assignment is not None and self.index is not None  # only merged tokens have one
        itself = torch.arange(self.assignment.shape[0], device=self.assignment.device)
        return torch.where(self.members().flatten()[self.assignment], self.assignment, itself)

    def _mean(self, flat: Tensor, assignment: Tensor) -> Tensor:
        total = torch.zeros_like(flat, dtype=torch.float32).index_add(0, assignment, flat.float())[self.index]
        members = torch.zeros_like(assignment).index_add(0, assignment, torch.ones_like(assignment))[self.index]
        return total / members.view(-1, *[1] * (flat.ndim - 1))

    def prepend(self, x: Tensor) -> TokenSet:
        """Return the set with P' more prefix tokens in front of all tokens of every image.

        They represent themselves and have size 1. All positions of an image move by P'; what represents them, what is
        pending and the sizes of the other tokens stay.

        Args:
            x: (B, P', C) the new tokens.

        Raises:
            ValueError: this set has a fixed capacity, or ``x`` is for another number of images.
        """
        self._need_counts("prepend")
        if x.shape[0] != self.batch:
            raise ValueError(f"{x.shape[0]} images of new tokens do not fit a set of {self.batch} images")
        number = x.shape[1]
        x, dense = x.to(self.x.dtype), torch.cat([x.to(self.dense.dtype), self.dense], dim=1)
        prefix, late = self.prefix + number, self.late + number
        if self.is_full:
            return replace(TokenSet.full(torch.cat([x, self.restore()], dim=1), self.grid, prefix), late=late)
        assert self.counts is not None  # checked above
        first = torch.arange(self.batch, device=x.device)[:, None] * dense.shape[1]
        own = first + torch.arange(number, device=x.device)  # (B, P') positions of the new tokens

        def moved(position: Tensor) -> Tensor:
            return position + number * (position.div(self.positions, rounding_mode="floor") + 1)

        assignment = None
        if self.assignment is not None:
            assignment = torch.cat([own, moved(self.assignment).view(self.batch, -1)], dim=1).flatten()
        return replace(
            self,
            x=self.prepend_to(self.x, x),
            dense=dense,
            index=self.prepend_to(moved(self._index()), own),
            counts=self.counts.plus(number),
            prefix=prefix,
            size=None if self.size is None else self.prepend_to(self.size, self.size.new_ones(own.shape)),
            assignment=assignment,
            pending=tuple((moved(index), values) for index, values in self.pending),
            late=late,
        )

    def prepend_to(self, values: Tensor, new: Tensor) -> Tensor:
        """Return per-token ``values`` (T, ...) with the entries ``new`` (B, P', ...) in front of each image's."""
        assert self.counts is not None
        new = new.to(values.dtype)
        if self.counts.each is not None:
            return torch.cat([new, self.counts.by_image(values)], dim=1).flatten(0, 1)
        parts = zip(new, self.counts.split(values), strict=True)
        return torch.cat([part for pair in parts for part in pair])

    def with_x(self, x: Tensor) -> TokenSet:
        """Return the same positions with new values ``x`` (T, C)."""
        return replace(self, x=x)

    def clone(self) -> TokenSet:
        """Return a copy that shares no memory (a replayed CUDA graph overwrites its outputs)."""
        own: dict[str, Any] = {name: value.clone() for name, value in vars(self).items() if isinstance(value, Tensor)}
        if self.is_full:
            own["dense"] = own["x"].view(self.dense.shape)
        own["pending"] = tuple((index.clone(), x.clone()) for index, x in self.pending)
        return replace(self, **own)

    def to_map(self, values: Tensor, fill: float = 0) -> Tensor:
        """Return per-token ``values`` (T, ...) as a map (B, N, ...), with ``fill`` where no token is active."""
        self._need_counts("to_map")
        if self.index is None:
            return values.unflatten(0, (self.batch, self.positions))
        flat = values.new_full((self.batch * self.positions, *values.shape[1:]), fill)
        return flat.index_copy(0, self.index, values).unflatten(0, (self.batch, self.positions))

    def from_map(self, values: Tensor) -> Tensor:
        """Return the entries (T, ...) of a map (B, N, ...) at the active tokens, the inverse of ``to_map``."""
        flat = values.flatten(0, 1)
        return flat if self.index is None else flat[self.index]

    def members(self) -> Tensor:
        """Return which positions are active, (B, N) bool."""
        flat = torch.zeros(self.batch * self.positions + 1, dtype=torch.bool, device=self.x.device)
        flat = ~flat if self.index is None else flat.index_fill(0, self.index, True)
        return flat[:-1].view(self.batch, self.positions)

    def split_prefix(self, values: Tensor, number: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the entries of per-token ``values`` (T, ...) of the first ``number`` positions, and the others.

        ``number`` is by default that of the prefix tokens.
        """
        number = self.prefix if number is None else number
        if self.is_full:
            by_image = values.unflatten(0, (self.batch, self.positions))
            return by_image[:, :number].flatten(0, 1), by_image[:, number:].flatten(0, 1)
        prefix = self.is_prefix(number)
        return values[prefix], values[~prefix]

    def join_prefix(self, prefix: Tensor, grid: Tensor, number: int | None = None) -> Tensor:
        """Return one value per token, (T,) in the order of the set: the inverse of ``split_prefix``."""
        if self.is_full:
            number = self.prefix if number is None else number
            parts = prefix.view(self.batch, number), grid.view(self.batch, self.positions - number)
            return torch.cat(parts, dim=1).flatten()
        where = self.is_prefix(number)
        return grid.new_empty(where.shape[0]).masked_scatter(where, prefix).masked_scatter(~where, grid)

    def is_prefix(self, number: int | None = None) -> Tensor:
        """Return which tokens of the set are of the first ``number`` positions (default: the prefix), (T,) bool."""
        self._need_counts("is_prefix")
        return self._index() % self.positions < (self.prefix if number is None else number)

    def images(self) -> Tensor:
        """Return the index of each token's image, (T,) int64."""
        self._need_counts("images")
        return self._index().div(self.positions, rounding_mode="floor")

    def _index(self) -> Tensor:
        return torch.arange(self.x.shape[0], device=self.x.device) if self.index is None else self.index

    def _need_counts(self, what: str) -> None:
        if self.counts is None:
            raise ValueError(f"{what} is not for a set of fixed capacity; use run_block, restore and members only")
