"""Evo-ViT: the tokens with the highest running class attention take the slow path, the others wait in place ("Evo-ViT:
Slow-Fast Token Evolution for Dynamic Vision Transformer", Xu et al., AAAI 2022).

Shapes: T packed tokens, B images, N positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention import QKV
from ..components.class_attention import class_attention
from ..components.ranking import keep_top
from ..components.schedules import check_ratios
from ..errors import SettingError
from ..reducer import Decision, Reducer, register
from ..tokens import TokenSet


@dataclass
class State:
    """The running class attention (B, N) of every position, and the decision that blocks follow until the next one."""

    attention: Tensor | None = None
    decision: Decision | None = None


@register
class EvoViT(Reducer):
    """Every listed block runs on the class token and the tokens of highest class attention, summed over heads and
    blended over the blocks; waiting tokens keep their attention and their place, and may be chosen again.

    All images of a batch keep equally many tokens. Needs a class token. The paper's representative token, which updates
    the waiting ones, is left out, as in its released code and in SViT's comparison.

    Args:
        embed_dim, depth: of the host.
        blocks: the pruned blocks, ascending, from 1 on; default those after the first third (4 to 11 of 12).
        keep_ratio: kept fraction in (0, 1] of the grid, or one per block.
        decide: blocks that choose anew; the others follow the last choice. Default: all of ``blocks``, as in SViT's
            comparison; the released DeiTs choose twice, at [4, 8].
        tradeoff: weight of a block's own class attention in the blend, or one for every block of the host (the released
            DeiTs: 1 in the first four, 0.5 after).

    Raises:
        ValueError: an argument is out of its range.
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
    ) -> None:
        super().__init__(embed_dim, depth)
        blocks = list(range(max(depth // 3, 1), depth) if blocks is None else blocks)
        if not blocks or sorted({*blocks} & {*range(1, depth)}) != blocks:
            raise SettingError(
                f"blocks = {blocks}: list block numbers from 1 (block 0 tells what to choose by) to "
                f"{depth - 1}, ascending, each once"
            )
        decide = blocks if decide is None else list(decide)
        if not {*decide} <= {*blocks} or blocks[0] not in decide:
            raise SettingError(f"decide = {decide}: list some of the blocks {blocks}, the first of them included")
        weights = [tradeoff] * depth if isinstance(tradeoff, (int, float)) else list(tradeoff)
        if len(weights) != depth or any(not 0 <= weight <= 1 for weight in weights):
            raise SettingError(f"tradeoff is {tradeoff}; give one number in [0, 1], or one for each of {depth} blocks")
        self.ratio_of = dict(zip(blocks, check_ratios(keep_ratio, len(blocks)), strict=True))
        self.decide, self.tradeoff = frozenset(decide), weights

    @property
    def pruned_blocks(self) -> list[int]:
        return list(self.ratio_of)

    def start(self, tokens: TokenSet, score_fn: None = None) -> State:
        return State()

    def before_block(self, block: int, tokens: TokenSet, state: State) -> Decision | None:
        if block not in self.ratio_of:
            return None
        if block in self.decide:
            grid = tokens.positions - tokens.prefix
            wanted = int(self.ratio_of[block] * grid)
            score = state.attention[:, tokens.prefix :].flatten()
            keep = keep_top(score, (grid,) * tokens.batch, (wanted,) * tokens.batch)
            keep = tokens.join_prefix(keep.new_ones(tokens.prefix * tokens.batch), keep)
            state.decision = Decision(keep, counts=(tokens.prefix + wanted,) * tokens.batch)
        return state.decision

    @torch.no_grad()
    def after_attention(self, block: int, tokens: TokenSet, qkv: QKV, state: State) -> TokenSet:
        new = tokens.to_map(class_attention(tokens, qkv).sum(1))
        if state.attention is None:
            state.attention = new
        else:
            weight = self.tradeoff[block]
            blended = (1 - weight) * state.attention + weight * new
            state.attention = torch.where(tokens.members(), blended, state.attention)
        return tokens
