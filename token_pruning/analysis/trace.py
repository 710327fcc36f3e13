"""Record which tokens each block computes during a forward.

Shapes: B images, N positions, L blocks, H x W grid.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..tokens import SubGrid, TokenSet

_active: ContextVar[tuple[Trace, ...]] = ContextVar("traces", default=())


@dataclass(repr=False, eq=False)
class PassTrace:
    """Record of one forward of one stack of blocks.

    Attributes:
        grid: (H, W).
        prefix: number of prefix tokens in the first block.
        used: block number -> (B, N) bool, the tokens that the block computed.
        left: block number -> (B, N) bool, the tokens that its MLP computed; only for blocks that dropped or merged
            tokens after their attention.
        assignment: block number -> (B, N) int64, the position of the token that represents each position at the start
            of the block; only once tokens are merged.
        subgrid: block number -> the smaller grid that the tokens form; only where they form one.
    """

    grid: tuple[int, int]
    prefix: int
    used: dict[int, Tensor] = field(default_factory=dict)
    left: dict[int, Tensor] = field(default_factory=dict)
    assignment: dict[int, Tensor] = field(default_factory=dict)
    subgrid: dict[int, SubGrid] = field(default_factory=dict)

    def __repr__(self) -> str:
        images = len(next(iter(self.used.values()))) if self.used else 0
        return f"<PassTrace of {images} images, {self.grid[0]} x {self.grid[1]} tokens, {len(self.used)} blocks>"

    def of(self, image: int) -> PassTrace:
        """Return the record of one image, on CPU (B is 1)."""
        one = slice(image, image + 1)
        used, left, assignment = (
            {block: values[one].cpu() for block, values in kind.items()}
            for kind in (self.used, self.left, self.assignment)
        )
        return PassTrace(self.grid, self.prefix, used, left, assignment, self.subgrid)

    def record(self, block: int, tokens: TokenSet, keep: Tensor | None) -> None:
        """Record that ``block`` computes the tokens ``keep`` (T,) bool of the set ``tokens``; None for all."""
        if keep is None:
            keep = torch.ones(tokens.x.shape[0], dtype=torch.bool, device=tokens.x.device)
        self.used[block] = tokens.to_map(keep, fill=False).detach()
        if tokens.assignment is not None:
            self.assignment[block] = tokens.assignment.view(tokens.batch, -1) % tokens.positions
        if tokens.subgrid is not None:
            self.subgrid[block] = tokens.subgrid

    def record_left(self, block: int, tokens: TokenSet) -> None:
        """Record the set ``tokens`` that enters the MLP of ``block``."""
        self.left[block] = tokens.members()

    @property
    def blocks(self) -> list[int]:
        """Numbers of the recorded blocks, ascending."""
        return sorted(self.used)

    def of_grid(self, values: Any) -> Any:
        """Return the entries of the grid tokens (..., H * W) among those of all positions.

        The grid comes last, whatever number of prefix tokens a block has: more may enter after the first block.
        """
        return values[..., values.shape[-1] - self.grid[0] * self.grid[1] :]

    def masks(self) -> Tensor:
        """Return which grid tokens each block computed, (B, L, H, W) bool, in the order of ``blocks``."""
        stacked = torch.stack([self.of_grid(self.used[i]) for i in self.blocks], dim=1)
        return stacked.unflatten(2, self.grid)

    def last_use(self) -> Tensor:
        """Return the last block that computed each grid token, (B, H, W) int64; -1 where none did.

        With methods that drop tokens permanently, this is the block after which each token was dropped.
        """
        masks, blocks = self.masks(), torch.tensor([-1, *self.blocks])
        column = masks.shape[1] - masks.flip(1).int().argmax(1)
        return blocks.to(masks.device)[column * masks.any(1)]

    def keep_ratio(self) -> Tensor:
        """Return the fraction of the grid tokens that each block computed, (B, L)."""
        return self.masks().float().mean(dim=(2, 3))


class Trace:
    """Recorder of forwards: ``with Trace() as trace: model(images)``, then ``trace.passes[0].masks()``.

    Every forward of a stack of blocks in the body adds one ``PassTrace``. Nothing is stored elsewhere.
    """

    def __init__(self) -> None:
        self.passes: list[PassTrace] = []

    def __enter__(self) -> Trace:
        self._token = _active.set((*_active.get(), self))
        return self

    def __exit__(self, *exc: object) -> None:
        _active.reset(self._token)

    def begin(self, tokens: TokenSet) -> PassTrace:
        """Add and return the record of a forward that starts with ``tokens``."""
        self.passes.append(PassTrace(tokens.grid, tokens.prefix))
        return self.passes[-1]


def active_traces() -> tuple[Trace, ...]:
    """Return the active recorders; none in a compiled model, which cannot record. A graph of torch.export can."""
    return () if torch.compiler.is_dynamo_compiling() else _active.get()
