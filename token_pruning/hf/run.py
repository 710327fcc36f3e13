"""One forward of a Hugging Face vision tower under a reducer.

The tower's own ``forward`` runs as ever: it embeds the images, calls its layers one after the other, normalizes. Only
what a layer computes is replaced, by one step of ``StackForward``. A layer returns the map of all positions where
somebody looks (hooks, by which transformers records ``hidden_states``, and FSDP2 its gradients; or the tower itself),
and after the last layer; between layers that nobody looks at nothing is restored.

Shapes: B images, N positions, H x W grid, Q queries, C channels.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..adapters import BlockAdapter
from ..attention import rope_with_prefix
from ..calling import is_called, unwrapped
from ..errors import SettingError
from ..forward import StackForward
from ..tokens import feature_map
from .embedding import embedding_of
from .families import Family


class Run:
    """State of one forward.

    Args:
        tower: the tower, after ``apply``.
        family: its family.
        grid: (H, W) of the images.
        pixels: the images.
    """

    def __init__(self, tower: Any, family: Family, grid: tuple[int, int], pixels: Tensor) -> None:
        self.tower, self.family, self.grid, self.pixels = tower, family, grid, pixels
        self.front, self.back = family.front(tower.config), family.back(tower.config)
        self.layers = family.layers_of(tower)
        self.blocks: list[BlockAdapter] = []
        self.stack: StackForward | None = None
        self.mask_logits: Tensor | None = None  # (B, Q, h, w) that the queries predicted last
        self.queries, last = family.queries(tower.config)
        self.entry = len(self.layers) - last if self.queries else None  # the layer before which queries enter
        # The layers before which the tower predicts masks.
        self.predicts = set() if self.entry is None else _masked(tower, self.entry)
        self.handed: Tensor | None = None  # what the last layer returned and the set holds already

    def step(self, i: int, x: Tensor, mask: Tensor | None, options: dict[str, Any]) -> Tensor:
        """Run layer ``i`` and return the map as the layer would, or ``x`` itself where nobody looks at it.

        Args:
            x: what the tower gives the layer, in the family's layout; what it changed since the layer before is taken
                over.
            mask: as of ``HuggingFaceBlock``.
            options: keyword arguments of the layer.
        """
        layer: Any = unwrapped(self.layers[i])
        late = self.queries if i == self.entry else 0
        given = x[:, late:] if late else x
        if self.stack is None:
            self.stack = self._start(self.family.layout.sequence(given), layer, options.get("position_embeddings"))
        elif self._is_changed(i, given):
            tokens = self.family.layout.sequence(given)
            self.stack.tokens = self.stack.tokens.with_dense(self._prefix_first(tokens))
        if late:
            self.stack.prepend(x[:, :late])
            self.front += late
        visible = self._visible(mask) if self.queries and mask is not None else None
        block = self.family.block(layer, mask, **options)
        self.blocks.append(block)
        self.stack.run(i, i, visible)
        if block.on_map is not None:
            self.stack.update(block.on_map(feature_map(self.stack.map(), self.grid)).flatten(2).mT)
        if i == len(self.layers) - 1:
            return self._like_layer(self.stack.finish(with_prefix=True))
        if not self._is_watched(i):
            self.handed = x
            return x
        out = self._like_layer(self.stack.map(with_prefix=True))
        # Where gradients are recorded, the next layer continues from this very tensor, so that hooks see its gradient.
        self.handed = None if torch.is_grad_enabled() and self._is_hooked(i) else out
        return out

    def _is_hooked(self, i: int) -> bool:
        return is_called(self.layers[i]) or is_called(self.layers[i + 1])

    def _is_watched(self, i: int) -> bool:
        return self._is_hooked(i) or i + 1 in self.predicts or self.family.moves(self.tower.config)

    def _is_changed(self, i: int, x: Tensor) -> bool:
        """Return whether layer ``i`` gets other tokens ``x`` (B, N, C) than the set holds."""
        if i != self.entry or self.handed is None:
            return x is not self.handed
        # The tower has copied the tokens behind the queries, so only their values can tell what a hook returned.
        return self._is_hooked(i - 1) and not torch.equal(x, self.handed)

    def _visible(self, mask: Tensor) -> Tensor:
        """Return how visible each position is to each query, (B, N, Q), see ``StackForward.run``.

        These are the mask logits at the patches, and infinite where the tower's ``mask`` (B, H, N, N) of 1 and a huge
        negative number admits more: at all tokens before the patches, and for queries whose mask it has switched off.
        """
        assert self.mask_logits is not None  # the tower makes its mask of them
        logits = F.interpolate(self.mask_logits.detach(), self.grid, mode="bilinear").flatten(2).mT
        admitted = mask[:, 0, : self.queries, self.front :].mT > 0
        logits = logits.masked_fill(admitted & (logits <= 0), torch.inf)
        return F.pad(logits, (0, 0, self.front, 0), value=torch.inf)

    def _start(self, x: Tensor, layer: Any, rotary: tuple[Tensor, Tensor] | None) -> StackForward:
        prefix = self.front + self.back
        if x.shape[1] != prefix + self.grid[0] * self.grid[1]:
            raise SettingError(
                f"{type(self.tower).__name__} gives its layers {x.shape[1]} tokens, and the images have "
                f"{self.grid[0]} x {self.grid[1]} patches and {prefix} other tokens: it must not leave patches out"
            )
        reads = self.tower.reducer is not None and self.tower.reducer.reads_image
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
            rope_of=None if rotary is None else partial(self._rope_of, rotary[0]),
            embedding=embedding_of(self.tower, self.family, self.grid, self.pixels, x) if reads else None,
        )

    def _rope_of(self, like: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the rotary table (h * w, 2D) of another grid (h, w).

        In training, the tower draws the shift and the scale of its coordinates at each call, so also for this grid.
        """
        height, width = (n * p for n, p in zip(grid, self.tower.patch_embed.patch_size, strict=True))
        # Without images: of these, the tower reads the size alone.
        cos, sin = self.tower.rope_embeddings(like.new_empty(0, 3, height, width))
        return torch.cat([sin, cos], dim=-1)

    def _prefix_first(self, x: Tensor) -> Tensor:
        end = x.shape[1] - self.back
        return torch.cat([x[:, : self.front], x[:, end:], x[:, self.front : end]], dim=1) if self.back else x

    def _like_layer(self, x: Tensor) -> Tensor:
        """Return tokens (B, N, C) in the order and the layout of the family."""
        front, end = self.front, self.front + self.back
        x = torch.cat([x[:, :front], x[:, end:], x[:, front:end]], dim=1) if self.back else x
        return self.family.layout.like_layer(x, self.grid)


def _masked(tower: Any, entry: int) -> set[int]:
    """Return the layers from ``entry`` on before which EoMT predicts masks; in training it does before all."""
    probabilities = tower.attn_mask_probs
    if isinstance(probabilities, Tensor):  # an export has put a list in its place
        probabilities = probabilities.tolist()
    return {entry + i for i, probability in enumerate(probabilities) if tower.training or probability > 0}


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
