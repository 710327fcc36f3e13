"""Scores by which methods rank tokens: class attention, or how far the MLP moves a token.

"Representation Shift: Unifying Token Compression with FlashAttention", Choi et al., ICCV 2025, equations 4 to 6.

Shapes: T packed tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention import QKV
from ..errors import SettingError
from ..reducer import Reducer
from ..tokens import TokenSet
from .class_attention import normalized

SCORES = ("class_attention", "representation_shift")


@torch.no_grad()
def representation_shift(tokens: TokenSet, branch: Tensor) -> Tensor:
    """Return the distance between the output of the MLP and its unnormalized input, (T,), in single precision.

    It needs no class token and no attention weights. Low for tokens that the MLP reproduces; these are dropped first.

    Args:
        tokens: the set that entered the MLP, before its norm.
        branch: (T, C) output of the MLP, without layer scale, stochastic depth and the residual connection.
    """
    return (branch.float() - tokens.x.float()).norm(dim=1)


@dataclass
class RankingState:
    """State of one forward pass.

    Attributes:
        shift: (T,) representation shift of the tokens of the current block, where the block removes some.
        keys: (T, D) mean keys of the current block, for methods that also merge.
    """

    shift: Tensor | None = None
    keys: Tensor | None = None


class ScoredReducer(Reducer):
    """Base of the methods that rank tokens by one of ``SCORES``.

    Attributes:
        score: its name.
    """

    score: str = SCORES[0]

    def use_score(self, score: str) -> None:
        """Set the score.

        Raises:
            SettingError: it is unknown.
        """
        if score not in SCORES:
            raise SettingError(f"score is {score!r}; choose one of {', '.join(SCORES)}")
        self.score, self.needs_class_token = score, score == "class_attention"


class RankingReducer(ScoredReducer):
    """Base of the methods that remove the tokens with the lowest score in some blocks.

    With class attention they leave between attention and MLP, with representation shift behind the block.
    """

    def removes(self, block: int, tokens: TokenSet) -> bool:
        """Return whether ``block`` removes tokens."""
        raise NotImplementedError

    def class_score(self, tokens: TokenSet, qkv: QKV) -> Tensor:
        """Return the score (T,) by class attention, in the shares that the method needs."""
        raise NotImplementedError

    def reduce(self, block: int, tokens: TokenSet, score: Tensor, state: RankingState) -> TokenSet:
        """Return the set without the tokens that ``block`` removes by ``score`` (T,)."""
        raise NotImplementedError

    def start(self, tokens: TokenSet, score_fn: Callable | None = None) -> RankingState:
        return RankingState()

    def after_attention(self, block: int, tokens: TokenSet, qkv: QKV, state: RankingState) -> TokenSet:
        if self.score != "class_attention" or not self.removes(block, tokens):
            return tokens
        return self.reduce(block, tokens, self.class_score(tokens, qkv), state)

    def after_mlp(self, block: int, tokens: TokenSet, branch: Tensor, state: RankingState) -> None:
        if self.score == "representation_shift" and self.removes(block, tokens):
            # In shares, as class attention is.
            state.shift = normalized(tokens, representation_shift(tokens, branch), tokens.prefix)

    def after_block(self, block: int, tokens: TokenSet, state: RankingState) -> TokenSet:
        score, state.shift = state.shift, None
        return tokens if score is None else self.reduce(block, tokens, score, state)
