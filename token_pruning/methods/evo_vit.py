"""Evo-ViT: blocks compute the tokens with the highest running class attention (or another score) and skip the others.

"Evo-ViT: Slow-Fast Token Evolution for Dynamic Vision Transformer", Xu et al., AAAI 2022.

Shapes: T packed tokens, B images, N positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention import QKV
from ..components.class_attention import class_attention, normalized
from ..components.ranking import keep_top
from ..components.schedules import check_ratios
from ..components.token_score import SCORES, ScoredReducer, representation_shift
from ..counts import Counts
from ..errors import SettingError
from ..reducer import Decision, register
from ..tokens import TokenSet


@dataclass
class State:
    """State of one forward pass.

    Attributes:
        score: (B, N), the running class attention, or another score, of every position.
        decision: the decision that blocks follow until the next one.
    """

    score: Tensor | None = None
    decision: Decision | None = None


@register
class EvoViT(ScoredReducer):
    """Per-block selection of the tokens with the highest running class attention; skipped tokens may be selected again.

    The running class attention is the exponential moving average, over the blocks that computed the token, of the class
    attention summed over heads. Skipped tokens keep their value and their place.

    All images of a batch keep equally many tokens. Needs a class token, unless the score is representation shift. The
    paper's representative token, which updates the skipped ones, is left out, as in its released code and in SViT's
    comparison.

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.
        blocks: the pruned blocks, ascending, from 1 on; default those after the first third (4 to 11 of 12).
        keep_ratio: in (0, 1], relative to the grid, one for all listed blocks or one per block.
        decide: blocks that make a new selection; the others follow the last one. Default: all of ``blocks``, as in
            SViT's comparison; the released DeiTs select twice, at [4, 8].
        tradeoff: weight of a block's own class attention in the running average, one number or one for every block of
            the host (the released DeiTs: 1 in the first four, 0.5 after).
        score: "class_attention", or "representation_shift" instead, in shares of the image's sum.

    Raises:
        SettingError: an argument is out of range.
    """

    needs_class_token = True

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        blocks: Sequence[int] | None = None,
        keep_ratio: Sequence[float] | float = 0.5,
        decide: Sequence[int] | None = None,
        tradeoff: Sequence[float] | float = 0.5,
        score: str = SCORES[0],
    ) -> None:
        super().__init__(embed_dim, depth)
        blocks = list(range(max(depth // 3, 1), depth) if blocks is None else blocks)
        decide = blocks if decide is None else list(decide)
        weights = [tradeoff] * depth if isinstance(tradeoff, (int, float)) else list(tradeoff)
        _check_blocks(depth, blocks, decide)
        _check_tradeoff(depth, tradeoff, weights)
        self.ratio_of = dict(zip(blocks, check_ratios(keep_ratio, len(blocks)), strict=True))
        self.decide, self.tradeoff = frozenset(decide), weights
        self.use_score(score)

    @property
    def pruned_blocks(self) -> list[int]:
        return list(self.ratio_of)

    def start(self, tokens: TokenSet, score_fn: Callable | None = None) -> State:
        return State()

    def before_block(self, block: int, tokens: TokenSet, state: State) -> Decision | None:
        if block not in self.ratio_of:
            return None
        if block in self.decide:
            grid = tokens.positions - tokens.prefix
            number = math.trunc(self.ratio_of[block] * grid)
            assert state.score is not None  # block 0 sets it and is never pruned
            score = state.score[:, tokens.prefix :].flatten()
            keep = keep_top(score, Counts.equal(grid, tokens.batch), Counts.equal(number, tokens.batch))
            keep = tokens.join_prefix(keep.new_ones(tokens.prefix * tokens.batch), keep)
            state.decision = Decision(keep, counts=Counts.equal(tokens.prefix + number, tokens.batch))
        return state.decision

    def after_prepend(self, tokens: TokenSet, number: int, state: State) -> None:
        if state.score is not None:
            state.score = torch.cat([state.score.new_zeros(tokens.batch, number), state.score], dim=1)
        if state.decision is not None:
            state.decision = state.decision.prepended(tokens, number)

    @torch.no_grad()
    def after_attention(self, block: int, tokens: TokenSet, qkv: QKV, state: State) -> TokenSet:
        if self.score == "class_attention":
            self._blend(block, tokens, class_attention(tokens, qkv).sum(1), state)
        return tokens

    @torch.no_grad()
    def after_mlp(self, block: int, tokens: TokenSet, branch: Tensor, state: State) -> None:
        if self.score == "representation_shift":
            score = normalized(tokens, representation_shift(tokens, branch), tokens.prefix)
            self._blend(block, tokens, score, state)

    def _blend(self, block: int, tokens: TokenSet, score: Tensor, state: State) -> None:
        new = tokens.to_map(score)
        if state.score is None:
            state.score = new
        # Another size where checkpointing runs a block again that came before other prefix tokens entered.
        elif state.score.shape == new.shape:
            weight = self.tradeoff[block]
            blended = (1 - weight) * state.score + weight * new
            state.score = torch.where(tokens.members(), blended, state.score)


def _check_blocks(depth: int, blocks: list[int], decide: list[int]) -> None:
    if not blocks or sorted({*blocks} & {*range(1, depth)}) != blocks:
        raise SettingError(
            f"blocks = {blocks}: list block numbers from 1 (the selection needs the class attention of block 0) to "
            f"{depth - 1}, ascending, each once"
        )
    if not {*decide} <= {*blocks} or blocks[0] not in decide:
        raise SettingError(f"decide = {decide}: list some of the blocks {blocks}, the first of them included")


def _check_tradeoff(depth: int, tradeoff: Sequence[float] | float, weights: list[float]) -> None:
    if len(weights) != depth or any(not 0 <= weight <= 1 for weight in weights):
        raise SettingError(f"tradeoff is {tradeoff}; give one number in [0, 1], or one for each of {depth} blocks")
