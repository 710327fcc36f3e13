"""One forward of a Hugging Face vision tower under a reducer.

The tower's own ``forward`` runs as ever: it embeds the images, calls its layers one after the other, normalizes. Only
what a layer computes is replaced, by one step of ``StackForward``. A layer returns the map of all positions where
somebody looks (hooks, by which transformers records ``hidden_states``, and FSDP2 its gradients; or the tower itself),
and after the last layer; between layers that nobody looks at nothing is restored.

Shapes: B images, N positions, C channels.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from ..adapters import BlockAdapter
from ..attention import rope_with_prefix
from ..calling import is_called, unwrapped
from ..errors import SettingError
from ..forward import StackForward
from .families import Family


class Run:
    """State of one forward.

    Args:
        tower: the tower, after ``apply``.
        family: its family.
        grid: (H, W) of the images.
    """

    def __init__(self, tower: Any, family: Family, grid: tuple[int, int]) -> None:
        self.tower, self.family, self.grid = tower, family, grid
        self.front, self.back = family.front(tower.config), family.back(tower.config)
        self.layers = family.layers_of(tower)
        self.blocks: list[BlockAdapter] = []
        self.stack: StackForward | None = None
        self.handed: Tensor | None = None  # what the last layer returned and the set holds already

    def step(self, i: int, x: Tensor, mask: Tensor | None, options: dict[str, Any]) -> Tensor:
        """Run layer ``i`` and return the map (B, N, C), or ``x`` itself where nobody looks at it.

        Args:
            x: (B, N, C) what the tower gives the layer; what it changed since the layer before is taken over.
            mask: as of ``HuggingFaceBlock``.
            options: keyword arguments of the layer.
        """
        layer: Any = unwrapped(self.layers[i])
        if self.stack is None:
            self.stack = self._start(x, layer, options.get("position_embeddings"))
        elif x is not self.handed:
            self.stack.tokens = self.stack.tokens.with_dense(self._prefix_first(x))
        self.blocks.append(self.family.block(layer, mask, **options))
        self.stack.run(i, i)
        if i == len(self.layers) - 1:
            return self._in_order(self.stack.finish(with_prefix=True))
        if not self._is_watched(i):
            self.handed = x
            return x
        out = self._in_order(self.stack.map(with_prefix=True))
        # Where gradients are recorded, the next layer continues from this very tensor, so that hooks see its gradient.
        self.handed = None if torch.is_grad_enabled() else out
        return out

    def _is_watched(self, i: int) -> bool:
        return is_called(self.layers[i]) or is_called(self.layers[i + 1]) or self.family.moves(self.tower.config)

    def _start(self, x: Tensor, layer: Any, rotary: tuple[Tensor, Tensor] | None) -> StackForward:
        prefix = self.front + self.back
        if x.shape[1] != prefix + self.grid[0] * self.grid[1]:
            raise SettingError(
                f"{type(self.tower).__name__} gives its layers {x.shape[1]} tokens, and the images have "
                f"{self.grid[0]} x {self.grid[1]} patches and {prefix} other tokens: it must not leave patches out"
            )
        rope = None if rotary is None else rope_with_prefix(torch.cat([rotary[1], rotary[0]], dim=-1), prefix)
        return StackForward(
            self.blocks,  # type: ignore[arg-type]  # adapters, added as the tower calls its layers
            self.tower.reducer,
            self._prefix_first(x),
            self.grid,
            prefix,
            checkpointing=layer.gradient_checkpointing and layer.training,
            execution=self.tower.execution,
            rope=rope,
        )

    def _prefix_first(self, x: Tensor) -> Tensor:
        end = x.shape[1] - self.back
        return torch.cat([x[:, : self.front], x[:, end:], x[:, self.front : end]], dim=1) if self.back else x

    def _in_order(self, x: Tensor) -> Tensor:
        front, end = self.front, self.front + self.back
        return torch.cat([x[:, :front], x[:, end:], x[:, front:end]], dim=1) if self.back else x


class Current:
    """The run that layers belong to. A compiled model keeps it in an attribute: it cannot trace context variables."""

    def __init__(self) -> None:
        self._of_context: ContextVar[Run | None] = ContextVar("run", default=None)
        self._compiled: Run | None = None

    def get(self) -> Run | None:
        """Return the run, or None outside of a tower's forward."""
        return self._compiled if torch.compiler.is_compiling() else self._of_context.get()

    def set(self, run: Run | None) -> Run | None:
        """Enter ``run`` and return what to ``set`` again afterwards."""
        before = self.get()
        if torch.compiler.is_compiling():
            self._compiled = run
        else:
            self._of_context.set(run)
        return before


current = Current()
