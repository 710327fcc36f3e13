"""Record which tokens each block ran on, in the one and only forward.

Shapes: B images, N positions, L blocks, H x W grid.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..tokens import TokenSet

_active: ContextVar[tuple[Trace, ...]] = ContextVar("traces", default=())


@dataclass
class PassTrace:
    """What one forward of one stack of blocks did.

    Attributes:
        grid: (H, W).
        prefix: number of prefix tokens.
        used: block number -> (B, N) bool, True where the block computed the token.
        left: block number -> (B, N) bool, which of them its MLP still computed; only where the block dropped or merged
            tokens after its attention.
        owner: block number -> (B, N) int64, the position of the token that stands for each position when the block
            begins; only once tokens are merged.
    """

    grid: tuple[int, int]
    prefix: int
    used: dict[int, Tensor] = field(default_factory=dict)
    left: dict[int, Tensor] = field(default_factory=dict)
    assignment: dict[int, Tensor] = field(default_factory=dict)

    def of(self, image: int) -> PassTrace:
        """The same of one image alone, on CPU: B is 1."""
        one = slice(image, image + 1)
        kinds = (
            {block: values[one].cpu() for block, values in kind.items()}
            for kind in (self.used, self.left, self.assignment)
        )
        return PassTrace(self.grid, self.prefix, *kinds)

    def record(self, block: int, tokens: TokenSet, keep: Tensor | None) -> None:
        """``keep`` (T,) bool of the set ``tokens``, None for all."""
        if keep is None:
            keep = torch.ones(len(tokens.x), dtype=torch.bool, device=tokens.x.device)
        self.used[block] = tokens.to_map(keep, fill=False).detach()
        if tokens.assignment is not None:
            self.assignment[block] = tokens.assignment.view(tokens.batch, -1) % tokens.positions

    def record_left(self, block: int, tokens: TokenSet) -> None:
        """``tokens`` is the set that enters the MLP."""
        self.left[block] = tokens.members()

    @property
    def blocks(self) -> list[int]:
        return sorted(self.used)

    def masks(self) -> Tensor:
        """(B, L, H, W) bool: use of the grid tokens by each block, in the order of the blocks."""
        stacked = torch.stack([self.used[i][:, self.prefix :] for i in self.blocks], dim=1)
        return stacked.unflatten(2, self.grid)

    def last_use(self) -> Tensor:
        """(B, H, W) int64, the last block that computed each grid token, -1 where none did: with tokens that leave for
        good, after which block each one left."""
        masks, blocks = self.masks(), torch.tensor([-1, *self.blocks])
        column = masks.shape[1] - masks.flip(1).int().argmax(1)
        return blocks.to(masks.device)[column * masks.any(1)]

    def keep_ratio(self) -> Tensor:
        """(B, L) fraction of the grid tokens that each block computed."""
        return self.masks().float().mean(dim=(2, 3))


class Trace:
    """Recorder: ``with Trace() as trace: model(images)``, then ``trace.passes[0].masks()``.

    Every forward of a stack of blocks inside the body adds one ``PassTrace``. Nothing is kept anywhere else.
    """

    def __init__(self) -> None:
        self.passes: list[PassTrace] = []

    def __enter__(self) -> Trace:
        self._token = _active.set((*_active.get(), self))
        return self

    def __exit__(self, *exc: object) -> None:
        _active.reset(self._token)

    def begin(self, tokens: TokenSet) -> PassTrace:
        self.passes.append(PassTrace(tokens.grid, tokens.prefix))
        return self.passes[-1]


def active_traces() -> tuple[Trace, ...]:
    """The recorders that are switched on; none within a compiled model, which records nothing."""
    return () if torch.compiler.is_compiling() else _active.get()
