"""The forward of a stack of blocks with a reducer or without: the only place that calls the reducer's hooks.

Shapes: B images, N positions, T packed tokens, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .analysis.trace import active_traces
from .attention import QKV, rope_with_prefix
from .blocks import run_block
from .capacity import select_at_most
from .embedding import PatchEmbedding
from .errors import SettingError
from .losses import report_losses
from .recording import refuse_export, refuse_recording
from .reducer import Decision, Reducer
from .tokens import TokenSet

STEP = 128  # capacities are multiples of it, for full tiles in matrix products


class StackForward:
    """One forward of tokens through blocks, in as many parts as the host needs.

    A plain ViT runs all blocks and takes ``finish()``; ViT-Adapter runs some blocks, reads the ``map()``, changes it
    with ``update()``, and continues.

    Args:
        blocks: timm-style blocks.
        reducer: None for the dense model.
        x: (B, N, C) tokens after the patch embedding.
        grid: (H, W).
        prefix: number of prefix tokens before the grid tokens.
        checkpointing: recompute each block in backward instead of storing its activations.
        execution: how evaluation runs a block on a number of tokens that only the device knows. "exact": the host asks
            for it, which on CUDA synchronizes once per block. "capacity": compute as many tokens as
            ``reducer.capacity`` returns, so that nothing synchronizes and no shape depends on data (for CUDA graphs and
            compilation). Unused rows cost time, and tokens beyond the capacity are dropped, lowest scores first. Both
            give the same outputs where the capacity suffices.
        score_fn: class scores supplied by the host, passed to ``Reducer.start``.
        rope: (N, 2D) rotary position embeddings of all positions, see ``attention.rotate``, or None.
        rope_of: returns those of the tokens of another grid (h, w), (h * w, 2D), for reducers that make a smaller one.
        embedding: what the host made ``x`` from, for reducers that read the image; None if it cannot tell.
    """

    def __init__(
        self,
        blocks: nn.ModuleList | nn.Sequential | Sequence[nn.Module],
        reducer: Reducer | None,
        x: Tensor,
        grid: tuple[int, int],
        prefix: int = 0,
        checkpointing: bool = False,
        execution: str = "exact",
        score_fn: Callable | None = None,
        rope: Tensor | None = None,
        rope_of: Callable[[tuple[int, int]], Tensor] | None = None,
        embedding: PatchEmbedding | None = None,
    ) -> None:
        refuse_recording(x, reducer)
        if reducer and not x.shape[0]:  # no image, so nothing to select
            x, reducer = _without_images(x, reducer), None
        self.blocks, self.reducer, self.execution = blocks, reducer, execution
        self.rope, self.rope_of = rope, rope_of
        self._subgrid_rope: tuple[tuple, Tensor] | None = None  # key and table of the last smaller grid
        self.tokens = TokenSet.full(x, grid, prefix)
        self.state = reducer.start(self.tokens, score_fn) if reducer else None
        if reducer and reducer.reads_image:
            if embedding is None:
                raise SettingError(
                    f"{type(reducer).__name__} makes tokens from the image, and this host does not hand it over; pass "
                    "an embedding to StackForward, or use a PlainViT, a timm model with timm's PatchEmbed or one of "
                    "transformers (docs/hugging_face.md)"
                )
            self.tokens = reducer.embed(self.tokens, embedding, self.state)
        self.checkpointing = checkpointing and torch.is_grad_enabled()
        self.next_block = 0
        self.traces = [trace.begin(self.tokens) for trace in active_traces()]

    def run(self, first: int, last: int, visible: Tensor | None = None) -> None:
        """Run blocks ``first`` to ``last``, both included.

        Args:
            visible: (B, N, Q) masked attention of the first Q positions, see ``attention.visible_tokens``; None: every
                token attends to all.
        """
        self.next_block = last + 1
        for i in range(first, last + 1):
            decision = None
            if self.reducer:
                self.tokens = self.reducer.enter_block(i, self.tokens, self.state)
                decision = self.reducer.before_block(i, self.tokens, self.state)
            self.tokens = self._step(i, decision, visible)
            if self.reducer:
                self.tokens = self.reducer.after_block(i, self.tokens, self.state)

    def run_to(self, last: int) -> None:
        """Run the blocks from where the last run ended to ``last``, included: for a map at each of several blocks."""
        self.run(self.next_block, last)

    def prepend(self, x: Tensor) -> None:
        """Let the tokens ``x`` (B, Q, C) enter in front of all others: queries of a late block, say.

        They are prefix tokens from now on: no method scores, merges, drops or restores them, and they are not rotated.
        """
        if self.reducer:
            self.reducer.after_prepend(self.tokens, x.shape[1], self.state)
        self.tokens = self.tokens.prepend(x)
        if self.rope is not None:
            self.rope = rope_with_prefix(self.rope, x.shape[1])

    def _step(self, i: int, decision: Decision | None, visible: Tensor | None) -> TokenSet:
        if decision is None:
            self._record(i, None)
            return self._block(i, self.tokens, None, visible)
        if decision.gate is not None and not decision.packed:
            self._record(i, decision.keep)
            keys = decision.gate.squeeze(1) if decision.soft_keys else decision.keep
            done = self._block(i, self.tokens, keys, visible)
            return done.with_x(decision.gate * done.x + (1 - decision.gate) * self.tokens.x)
        subset = self._subset(i, decision)
        if self.traces:
            self._record(i, decision.keep if subset.counts is not None else subset.members().flatten())
        done = self._block(i, subset, None, visible)
        if decision.gate is not None:
            gate = decision.gate[decision.keep]
            done = done.with_x(gate * done.x + (1 - gate) * subset.x)
        return self.tokens.with_dense(done.restore())

    def _subset(self, i: int, decision: Decision) -> TokenSet:
        assert self.reducer is not None  # it made the decision
        exact = self.execution == "exact" or self.reducer.training
        if exact and decision.counts is None and torch.compiler.is_exporting():
            refuse_export(self.reducer, "set model.execution = 'capacity', or for SViT mode='ratio'")
        if exact or decision.counts is not None:
            return self.tokens.select(decision.keep, decision.counts)
        if decision.score is None:
            raise SettingError(
                f"{type(self.reducer).__name__} gives neither the number of tokens that it keeps nor their scores, "
                "and execution='capacity' needs one of them; use execution='exact'"
            )
        fraction, batch, positions = self.reducer.capacity(i), self.tokens.batch, self.tokens.positions
        if isinstance(batch, int):
            capacity = math.ceil(fraction * batch * positions / STEP) * STEP
        else:  # of a graph of torch.export for any batch
            capacity = math.ceil(fraction * positions) * batch
        return select_at_most(self.tokens, decision.keep, capacity, decision.score)

    def _record(self, i: int, keep: Tensor | None) -> None:
        for trace in self.traces:
            trace.record(i, self.tokens, keep)

    def _block(self, i: int, tokens: TokenSet, keys: Tensor | None, visible: Tensor | None) -> TokenSet:
        reducer = self.reducer

        def between(tokens: TokenSet, qkv: QKV) -> TokenSet:
            remaining = tokens if reducer is None else reducer.after_attention(i, tokens, qkv, self.state)
            for trace in self.traces if remaining is not tokens else ():
                trace.record_left(i, remaining)
            return remaining

        def after_mlp(tokens: TokenSet, branch: Tensor) -> None:
            if reducer is not None:
                reducer.after_mlp(i, tokens, branch, self.state)

        # Of this block: more rows come with `prepend`, and checkpointing runs the block again later.
        rope = self._rope(tokens)
        prop_attn = reducer is not None and reducer.prop_attn
        no_drop_path = reducer is not None and i in reducer.no_drop_path_blocks

        def run(x: Tensor) -> TokenSet:
            given = tokens.with_x(x)
            return run_block(self.blocks[i], given, keys, between, prop_attn, rope, no_drop_path, after_mlp, visible)

        # The tensor is an argument so that torch saves the random state of its device: the recomputation draws
        # stochastic depth again.
        return checkpoint(run, tokens.x, use_reentrant=False) if self.checkpointing else run(tokens.x)

    def _rope(self, tokens: TokenSet) -> Tensor | None:
        if self.rope is None or tokens.subgrid is None:
            return self.rope
        if self.rope_of is None:
            raise SettingError(
                f"{type(self.reducer).__name__} makes a smaller grid, and this host has rotary positions of one grid "
                "only; pass rope_of to StackForward"
            )
        key = (tokens.subgrid.grid, tokens.prefix)
        if self._subgrid_rope is None or self._subgrid_rope[0] != key:
            self._subgrid_rope = (key, rope_with_prefix(self.rope_of(tokens.subgrid.grid), tokens.prefix))
        return self._subgrid_rope[1]

    def map(self, with_prefix: bool = False) -> Tensor:
        """Return the current map (B, H * W, C); ``with_prefix``: (B, N, C) with the prefix tokens first."""
        dense_map = self.reducer.restore(self.tokens, self.state) if self.reducer else self.tokens.restore()
        return dense_map if with_prefix else dense_map[:, self.tokens.prefix :]

    def update(self, grid: Tensor) -> None:
        """Continue with a new map ``grid`` (B, H * W, C); the same tokens stay active."""
        if self.tokens.prefix:
            grid = torch.cat([self.map(with_prefix=True)[:, : self.tokens.prefix], grid], dim=1)
        self.tokens = self.tokens.with_dense(grid)

    def finish(self, with_prefix: bool = False) -> Tensor:
        """Return the final ``map``; in training, report the reducer's losses to ``collect_losses``."""
        if self.reducer and self.reducer.training:
            report_losses(self.reducer.losses(self.state))
        return self.map(with_prefix)


def _without_images(x: Tensor, reducer: Reducer) -> Tensor:
    """Return ``x`` (0, N, C), connected to the reducer's parameters: distributed training waits for all gradients."""
    return x + 0 * sum(p.sum() for p in reducer.parameters()) if torch.is_grad_enabled() else x


def check_execution(execution: str) -> None:
    """Raise SettingError for an unknown ``execution``."""
    if execution not in ("exact", "capacity"):
        raise SettingError(f"execution is {execution!r}; choose 'exact' or 'capacity'")
