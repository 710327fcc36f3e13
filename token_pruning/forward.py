"""One forward of a stack of blocks under a reducer (or none): the only place that knows the order of the moments.

Shapes: B images, N positions, T packed tokens, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .analysis.trace import active_traces
from .blocks import run_block
from .errors import SettingError
from .losses import report_losses
from .reducer import Decision, Reducer
from .tokens import TokenSet

STEP = 128  # capacities are multiples of this: matrix products want full tiles


class StackForward:
    """Walks tokens through blocks, as far at a time as the host likes.

    A plain ViT runs all blocks and takes ``finish()``; ViT-Adapter runs a few, reads the ``map()``, changes it with
    ``update()``, and goes on.

    Args:
        blocks: timm-style blocks.
        reducer: None for the dense model.
        x: (B, N, C) tokens after the patch embedding.
        grid: (H, W).
        prefix: number of prefix tokens in front of the grid.
        checkpointing: recompute each block in backward instead of keeping its activations.
        execution: how evaluation runs a block on tokens whose number is only known on the device. "exact": asks for it,
            which on CUDA stops the host once a block. "capacity": computes as many as ``reducer.capacity`` says, so
            that nothing waits and no shape depends on data (for CUDA graphs and compilation); unused rows cost time,
            and tokens beyond rest in the map, lowest scores first. Both are the same where the capacity suffices.
        judge: handed on to the reducer for this forward, see ``Reducer.start``.
        rope: (N, 2D) rotary positions of all places, see ``attention.rotate``, or None.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        reducer: Reducer | None,
        x: Tensor,
        grid: tuple[int, int],
        prefix: int = 0,
        checkpointing: bool = False,
        execution: str = "exact",
        score_fn: Callable | None = None,
        rope: Tensor | None = None,
    ) -> None:
        self.blocks, self.reducer, self.execution, self.rope = blocks, reducer, execution, rope
        self.tokens = TokenSet.full(x, grid, prefix)
        self.state = reducer.start(self.tokens, score_fn) if reducer else None
        self.checkpointing = checkpointing and torch.is_grad_enabled()
        self.traces = [trace.begin(self.tokens) for trace in active_traces()]

    def run(self, first: int, last: int) -> None:
        """Blocks ``first`` to ``last``, the last one included."""
        for i in range(first, last + 1):
            decision = self.reducer.before_block(i, self.tokens, self.state) if self.reducer else None
            self.tokens = self._step(i, decision)
            if self.reducer:
                self.tokens = self.reducer.after_block(i, self.tokens, self.state)

    def _step(self, i: int, decision: Decision | None) -> TokenSet:
        if decision is None or (decision.gate is not None and not decision.packed):
            self._record(i, None if decision is None else decision.keep)
            if decision is None:
                return self._block(i, self.tokens)
            keys = decision.gate.squeeze(1) if decision.soft_keys else decision.keep
            done = self._block(i, self.tokens, keys)
            return done.with_x(decision.gate * done.x + (1 - decision.gate) * self.tokens.x)
        subset = self._subset(i, decision)
        if self.traces:
            self._record(i, decision.keep if subset.counts is not None else subset.members().flatten())
        done = self._block(i, subset)
        if decision.gate is not None:
            gate = decision.gate[decision.keep]
            done = done.with_x(gate * done.x + (1 - gate) * subset.x)
        return self.tokens.with_dense(done.restore())

    def _subset(self, i: int, decision: Decision) -> TokenSet:
        if decision.counts is not None or self.execution == "exact" or self.reducer.training:
            return self.tokens.select(decision.keep, decision.counts)
        if decision.score is None:
            raise SettingError(
                f"{type(self.reducer).__name__} tells neither how many tokens it keeps nor how much each "
                "matters, which execution='capacity' needs; use execution='exact'"
            )
        everything = len(self.tokens.x)
        capacity = math.ceil(self.reducer.capacity(i) * everything / STEP) * STEP
        return self.tokens.select_at_most(decision.keep, min(capacity, everything), decision.score)

    def _record(self, i: int, keep: Tensor | None) -> None:
        for trace in self.traces:
            trace.record(i, self.tokens, keep)

    def _block(self, i: int, tokens: TokenSet, keys: Tensor | None = None) -> TokenSet:
        between = None
        if self.reducer:

            def between(tokens, qkv):
                left = self.reducer.after_attention(i, tokens, qkv, self.state)
                for trace in self.traces if left is not tokens else ():
                    trace.record_left(i, left)
                return left

        prop_attn = self.reducer is not None and self.reducer.prop_attn
        no_drop_path = self.reducer is not None and i in self.reducer.no_drop_path_blocks

        def run(x):
            return run_block(self.blocks[i], tokens.with_x(x), keys, between, prop_attn, self.rope, no_drop_path)

        # The recomputation draws stochastic depth again; torch saves the generator of the device it finds a tensor on.
        return checkpoint(run, tokens.x, use_reentrant=False) if self.checkpointing else run(tokens.x)

    def map(self, with_prefix: bool = False) -> Tensor:
        """The map (B, H * W, C) as it stands now; ``with_prefix``, the prefix tokens before it (B, N, C)."""
        dense_map = self.reducer.restore(self.tokens, self.state) if self.reducer else self.tokens.restore()
        return dense_map if with_prefix else dense_map[:, self.tokens.prefix :]

    def update(self, grid: Tensor) -> None:
        """Go on with a new map ``grid`` (B, H * W, C); the tokens that are in work stay the same."""
        if self.tokens.prefix:
            grid = torch.cat([self.map(with_prefix=True)[:, : self.tokens.prefix], grid], dim=1)
        self.tokens = self.tokens.with_dense(grid)

    def finish(self, with_prefix: bool = False) -> Tensor:
        """The final ``map``; in training the reducer's losses are handed to whoever collects them."""
        if self.reducer and self.reducer.training:
            report_losses(self.reducer.losses(self.state))
        return self.map(with_prefix)


def check_execution(execution: str) -> None:
    """Raises ValueError for a name that is none."""
    if execution not in ("exact", "capacity"):
        raise SettingError(f"execution is {execution!r}; choose 'exact' or 'capacity'")
