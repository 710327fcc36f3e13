"""PPT: prune or pool tokens, decided for each image and block.

"PPT: Token Pruning and Pooling for Efficient Vision Transformers", Wu et al., 2023. The method has no parameters.

Shapes: T packed tokens, B images, n tokens of each image, P prefix tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..attention import QKV
from ..components.class_attention import key_mean, significance
from ..components.matching import Match, bipartite_matching
from ..components.ranking import rows_of, sort_rows
from ..components.schedules import check_blocks
from ..components.token_score import SCORES, RankingReducer, RankingState
from ..counts import Counts
from ..errors import SettingError
from ..reducer import register
from ..tokens import TokenSet
from .tome import ToMe, merge

PROTECT = ("prefix", "class")


@register
class PPT(RankingReducer, ToMe):
    """Adaptive pruning or pooling of ``r`` tokens, between attention and MLP of the listed blocks.

    In an image whose scores are peaked (their variance reaches the threshold) the least significant tokens are dropped;
    where scores are flat, similar tokens are pooled as in ToMe.

    All images of a batch keep equally many tokens. Needs a class token, unless the score is representation shift.

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.
        r: number of tokens that each listed block removes, at most half of them in either way; below 1 a fraction of
            the grid; or a list with one entry for each of ``blocks``.
        inflection: with one ``r`` for all blocks: 0 constant, towards -1 more in the first blocks, towards 1 more in
            the last.
        blocks: blocks that remove tokens, ascending; default the first block after each quarter of the depth (3, 6, 9
            of 12).
        threshold: of the variance of scores that sum to one, which scales with one over the squared number of tokens:
            7e-5 without fine-tuning and 6e-5 with it are for 224 pixels and patches of 16. 0 always prunes, infinity
            always pools. ``tools/analysis_tools/calibrate.py`` finds it.
        relative: the threshold is of the variance divided by the squared mean score, which does not depend on the
            number of tokens: for images of any size.
        prop_attn: proportional attention: pooled tokens are weighted by their size. Off, they also count as one token
            in later averages (as published).
        order: order of the tokens afterwards, which determines the pairs that later blocks can pool. "published": by
            falling score after pruning, shuffled after pooling; "map": that of the dense map.
        protect: "prefix" neither prunes nor scores any prefix token. "class" follows the published code, which scores a
            distillation token as a patch and may prune it; only for comparison with that code.
        score: "class_attention", times the norm of the value, or "representation_shift" instead, with which tokens are
            removed behind the block. Its variance is much lower, so the threshold has to be calibrated for it.

    Raises:
        SettingError: an argument is out of range.
    """

    needs_class_token = True

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        r: float | Sequence[float] = 50,
        inflection: float = 0.0,
        blocks: Sequence[int] | None = None,
        threshold: float = 7e-5,
        relative: bool = False,
        prop_attn: bool = True,
        order: str = "published",
        protect: str = "prefix",
        score: str = SCORES[0],
    ) -> None:
        super().__init__(embed_dim, depth, r, inflection, check_blocks(blocks, depth), prop_attn, order)
        _check_arguments(threshold, protect)
        self.threshold, self.relative, self.protect = threshold, relative, protect
        self.use_score(score)

    def removes(self, block: int, tokens: TokenSet) -> bool:
        return self.removed_by(block, tokens) > 0

    def class_score(self, tokens: TokenSet, qkv: QKV) -> Tensor:
        return significance(tokens, qkv, self.unscored(tokens), self.prop_attn)

    def after_attention(self, block: int, tokens: TokenSet, qkv: QKV, state: RankingState) -> TokenSet:
        state.keys = key_mean(qkv).detach() if self.removes(block, tokens) and self.threshold > 0 else None
        return super().after_attention(block, tokens, qkv, state)

    def reduce(self, block: int, tokens: TokenSet, score: Tensor, state: RankingState) -> TokenSet:
        r = self.removed_by(block, tokens)
        with torch.no_grad():
            pool, score = self.decide(tokens, score)
            match = _prune(score, r)
            if state.keys is not None:
                pooled = bipartite_matching(tokens.by_image(state.keys), r, tokens.prefix)
                match = Match(*(torch.where(pool[:, None], a, b) for a, b in zip(pooled, match, strict=True)))
            if self.order == "map":
                match = match._replace(rows=sort_rows(match.rows, tokens))
        if not self.prop_attn:
            tokens = tokens.with_sizes(None)
        if not self.threshold:  # nothing was ever pooled
            return tokens.take(rows_of(match.rows, tokens), Counts.equal(match.rows.shape[1], tokens.batch))
        return merge(tokens, match, pool[:, None].expand_as(match.sources))

    def unscored(self, tokens: TokenSet) -> int:
        """Return how many tokens at the start of each image have no score."""
        return tokens.prefix if self.protect == "prefix" else tokens.late + 1  # the class token

    def decide(self, tokens: TokenSet, score: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether to pool each image, (B,) bool, and the scores (B, n); protected tokens have infinity.

        Args:
            score: (T,), sums to one in each image. An image with a NaN prunes.
        """
        unscored, score = self.unscored(tokens), tokens.by_image(score)
        variance = score[:, unscored:].var(dim=1)
        if self.relative:  # the mean of n scores that sum to one is 1 / n
            variance = variance * (score.shape[1] - unscored) ** 2
        return variance < self.threshold, torch.cat(
            [torch.full_like(score[:, :unscored], torch.inf), score[:, unscored:].nan_to_num(0)], dim=1
        )


def _prune(score: Tensor, r: int) -> Match:
    """Drop the ``r`` lowest scores (B, n) and sort the others by falling score."""
    order = score.argsort(dim=1, descending=True, stable=True)
    kept, dropped = order[:, :-r], order[:, -r:]
    return Match(kept, dropped, torch.zeros_like(dropped))


def _check_arguments(threshold: float, protect: str) -> None:
    if not threshold >= 0:
        raise SettingError(f"threshold is {threshold}; it must be 0 (always prune) or more")
    if protect not in PROTECT:
        raise SettingError(f"protect is {protect!r}; choose one of {', '.join(PROTECT)}")
