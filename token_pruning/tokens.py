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
    map itself, seen flat, and nothing is copied in ``restore``. A token may stand for several positions (*merged*):
    each of them then has its value.

    Attributes:
        x: (T, C) values of the tokens in the set, image-major; inside an image by ascending position, unless a method
            has put them into another order.
        home: (B, N, C) values of all positions; at those of the set, and of tokens that wait, they are out of date.
        index: (T,) int64, flat position ``b * N + n`` of each token, or None in a full set. ``B * N`` marks unused rows
            at the end of a set of fixed capacity.
        counts: number of tokens of each image, any may be zero; None in a set of fixed capacity, where only the
            device knows.
        grid: (H, W).
        prefix: P, the number of prefix tokens; ``N = P + H * W``.
        offsets: (B + 2,) int32, where each image's tokens start, where the unused rows start, and T; only in a set of
            fixed capacity.
        size: (T,) float, for how much each token counts in averages (and in proportional attention); None for 1 each.
        owner: (B * N,) int64, the flat position of the token that stands for each position; None if each is its own.
        waiting: index (S,) and values (S, C) of tokens that left and are not written into ``dense`` yet.
    """

    x: Tensor
    dense: Tensor
    index: Tensor | None
    counts: tuple[int, ...] | None
    grid: tuple[int, int]
    prefix: int = 0
    offsets: Tensor | None = None
    size: Tensor | None = None
    assignment: Tensor | None = None
    pending: tuple[tuple[Tensor, Tensor], ...] = ()

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
                "pass the grid that the patch embedding gave"
            )
        return cls(x.reshape(-1, channels), x, None, (positions,) * batch, tuple(grid), prefix)

    @property
    def batch(self) -> int:
        return self.dense.shape[0]

    @property
    def positions(self) -> int:
        return self.dense.shape[1]

    @property
    def is_full(self) -> bool:
        return self.index is None

    def by_image(self, values: Tensor) -> Tensor:
        """Per-token ``values`` (T, ...) as (B, n, ...).

        Raises:
            ValueError: images have different numbers of tokens.
        """
        if self.counts is None or len(set(self.counts)) > 1:
            raise ValueError(
                "this needs the same number of tokens in every image, and they have "
                f"{'any' if self.counts is None else self.counts}"
            )
        return values.unflatten(0, (self.batch, -1))

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
            image = self.images().index_select(0, rows)
            counts = tuple(torch.bincount(image, minlength=self.batch).tolist())
        else:
            rows = torch.nonzero_static(keep, size=sum(counts)).squeeze(1)
        return self.take(rows, counts)

    def take(self, rows: Tensor, counts: tuple[int, ...], others: Tensor | None = None) -> TokenSet:
        """The tokens ``rows`` (T',) in that order, image after image; the others rest in the map as they are now.

        ``others``: their rows, where they are known. Nothing is copied then that does not move: they are written into
        the map when that is asked for.
        """
        kept = replace(self, counts=counts, size=None if self.size is None else self.size[rows])
        if others is None:
            return replace(kept, x=self.x[rows], dense=self.restore(), pending=(), index=self._index()[rows])
        order, number = torch.cat([rows, others]), len(rows)
        x, index = self.x[order], order if self.is_full else self.index[order]
        return replace(kept, x=x[:number], index=index[:number], pending=(*self.pending, (index[number:], x[number:])))

    def assign(
        self, rows: Tensor, counts: tuple[int, ...], x: Tensor, size: Tensor | None, sources: Tensor, targets: Tensor
    ) -> TokenSet:
        """The tokens ``rows`` (T',) with the values ``x`` (T', C); others stand behind them from now on.

        Args:
            counts: number of ``rows`` of each image.
            size: (T',) of the new tokens, or None.
            sources: (S,) all rows of this set that are not in the new one.
            targets: (S,) rows to whose group each source's positions go; a source that is its own target rests in the
                map, with the value that ``dense`` has for it.
        """
        index = self._index()
        assignment = torch.arange(self.batch * self.positions, device=index.device)
        assignment = assignment.index_copy(0, index[sources], index[targets])
        return replace(
            self,
            x=x,
            index=index[rows],
            counts=counts,
            size=size,
            assignment=assignment if self.assignment is None else assignment[self.assignment],
        )

    def merge(
        self, rows: Tensor, counts: tuple[int, ...], sources: Tensor, targets: Tensor, joins: Tensor | None = None
    ) -> TokenSet:
        """``assign`` with averages: each token of ``rows`` becomes the mean, weighted by size, of itself and the sources
        that join it. ``joins`` (S,) bool: the other sources rest in the map; None if all join."""
        size = self.sizes()
        place = torch.zeros_like(size, dtype=torch.int64).index_copy(
            0, rows, torch.arange(len(rows), device=rows.device)
        )[targets]  # of each target among the rows
        given, settled = size[sources], self
        if joins is not None:
            given = given * joins
            targets = torch.where(joins, targets, sources)
            settled = replace(self, dense=self.restore(), pending=())
        total = size[rows].index_add(0, place, given)
        # Weights that sum to one, rather than a sum to be divided: no overflow in half precision.
        x = self.x[rows] * (size[rows] / total)[:, None].to(self.x.dtype)
        x = x.index_add(0, place, self.x[sources] * (given / total[place])[:, None].to(self.x.dtype))
        return settled.assign(rows, counts, x, total, sources, targets)

    def with_sizes(self, size: Tensor | None) -> TokenSet:
        """The same tokens, counting as much as ``size`` (T,) says; None for one each."""
        return replace(self, size=size)

    def sizes(self) -> Tensor:
        """(T,) ``size``, in single precision; ones where it is None."""
        return self.x.new_ones(len(self.x), dtype=torch.float32) if self.size is None else self.size

    def select_at_most(self, keep: Tensor, capacity: int, score: Tensor) -> TokenSet:
        """The subset where ``keep`` (T,) is True, in ``capacity`` rows: no shape depends on data, nothing waits.

        If ``keep`` has more tokens than rows, those with the lowest ``score`` (T,) of the whole batch rest in the map
        like all that are not kept. Rows that are left over are zeros at the end.

        Raises:
            ValueError: this set is not full, or the capacity is more than it has.
        """
        everything = self.batch * self.positions
        if not self.is_full or capacity > everything:
            raise ValueError(
                f"a capacity of {capacity} tokens needs a full set of at least as many, and this one "
                f"{'is not full' if not self.is_full else f'has {everything}'}"
            )
        # Kept tokens stay above dropped ones, however low they score.
        lowest = torch.finfo(score.dtype).min
        best = score.clamp(min=lowest).masked_fill(~keep, -torch.inf).topk(capacity).indices
        index = torch.where(keep[best], best, everything).sort().values
        x = self.x[index.clamp(max=everything - 1)].masked_fill((index == everything)[:, None], 0)
        # Where each image starts among the sorted positions; the last of these is where the unused rows start.
        starts = torch.arange(self.batch + 1, device=index.device) * self.positions
        offsets = F.pad(torch.searchsorted(index, starts), (0, 1), value=capacity).to(torch.int32)
        return replace(self, x=x, dense=self.restore(), index=index, counts=None, offsets=offsets)

    def restore(self) -> Tensor:
        """The whole map (B, N, C): the tokens of the set at their positions, all others as they rest."""
        if self.is_full:
            return self.x.view(self.dense.shape)
        flat, index, x = self.dense.flatten(0, 1), self.index, self.x.to(self.dense.dtype)
        if self.pending:
            index = torch.cat([index, *(index for index, _ in self.pending)])
            x = torch.cat([x, *(gone.to(x.dtype) for _, gone in self.pending)])
        if self.counts is None:  # one more row takes what the unused rows hold
            flat = torch.cat([flat, x[:1]]).index_copy(0, index, x)[:-1]
        else:
            flat = flat.index_copy(0, index, x)
        return (flat if self.assignment is None else flat[self.assignment]).view(self.dense.shape)

    def with_dense(self, dense: Tensor) -> TokenSet:
        """The same tokens with the values of a new map ``dense`` (B, N, C), the mean over the positions of each. Groups
        whose token has left dissolve: each of their positions has its own value again."""
        self._need_counts("refresh")
        flat = dense.reshape(-1, dense.shape[-1])
        if self.is_full:
            return replace(self, x=flat, dense=dense)
        if self.assignment is None:
            return replace(self, x=flat[self.index], dense=dense, pending=())
        itself = torch.arange(len(flat), device=flat.device)
        assignment = torch.where(self.members().flatten()[self.assignment], self.assignment, itself)
        # In single precision: a group may have more members than half precision can count.
        total = torch.zeros_like(flat, dtype=torch.float32).index_add(0, assignment, flat.float())[self.index]
        members = torch.zeros_like(assignment).index_add(0, assignment, torch.ones_like(assignment))[self.index]
        return replace(
            self, x=(total / members[:, None]).to(flat.dtype), dense=dense, assignment=assignment, pending=()
        )

    def with_x(self, x: Tensor) -> TokenSet:
        """The same positions with new values ``x`` (T, C)."""
        return replace(self, x=x)

    def clone(self) -> TokenSet:
        """The same set in memory of its own (a replayed CUDA graph writes over what it gave out)."""
        own = {name: value.clone() for name, value in vars(self).items() if isinstance(value, Tensor)}
        if self.is_full:
            own["dense"] = own["x"].view(self.dense.shape)
        own["pending"] = tuple((index.clone(), x.clone()) for index, x in self.pending)
        return replace(self, **own)

    def to_map(self, values: Tensor, fill: float = 0) -> Tensor:
        """Per-token ``values`` (T, ...) on the map (B, N, ...), ``fill`` where no token of the set is at home."""
        self._need_counts("to_map")
        if self.is_full:
            return values.unflatten(0, (self.batch, self.positions))
        flat = values.new_full((self.batch * self.positions, *values.shape[1:]), fill)
        return flat.index_copy(0, self.index, values).unflatten(0, (self.batch, self.positions))

    def from_map(self, values: Tensor) -> Tensor:
        """The inverse of ``to_map``: what (B, N, ...) holds at the tokens of the set, (T, ...)."""
        flat = values.flatten(0, 1)
        return flat if self.is_full else flat[self.index]

    def members(self) -> Tensor:
        """(B, N) bool: which positions are in the set."""
        flat = torch.zeros(self.batch * self.positions + 1, dtype=torch.bool, device=self.x.device)
        flat = ~flat if self.is_full else flat.index_fill(0, self.index, True)
        return flat[:-1].view(self.batch, self.positions)

    def split_prefix(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Per-token ``values`` (T, ...) of the prefix tokens and of the grid tokens, each image after image."""
        if self.is_full:
            of_image = values.unflatten(0, (self.batch, self.positions))
            return of_image[:, : self.prefix].flatten(0, 1), of_image[:, self.prefix :].flatten(0, 1)
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
        return self._index() % self.positions < self.prefix

    def images(self) -> Tensor:
        """(T,) int64, the number of each token's image."""
        self._need_counts("images")
        return self._index().div(self.positions, rounding_mode="floor")

    def _index(self) -> Tensor:
        return torch.arange(len(self.x), device=self.x.device) if self.is_full else self.index

    def _need_counts(self, what: str) -> None:
        if self.counts is None:
            raise ValueError(f"{what} is not for a set of fixed capacity; only run_block, restore and members are")
