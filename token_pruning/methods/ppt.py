"""PPT: prune or pool, decided for each image and block ("PPT: Token Pruning and Pooling for Efficient Vision
Transformers", Wu et al., 2023). It has no parameters.

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
from ..errors import SettingError
from ..reducer import register
from ..tokens import TokenSet
from .tome import ToMe, merge

PROTECT = ("prefix", "class")


@register
class PPT(ToMe):
    """Between attention and MLP of the listed blocks every image loses ``r`` tokens. Where its scores are peaked (their
    variance reaches the threshold) the least significant ones are dropped, where they are flat, similar ones are pooled
    as in ToMe.

    All images of a batch keep equally many tokens. Needs a class token.

    Args:
        embed_dim, depth: of the host.
        r: tokens that each listed block takes (pooling can take half of them at most, and so does pruning), below 1 as
            a share of the grid; or a list, one entry for each of ``blocks``.
        inflection: with one ``r`` for all: 0 constant, towards -1 more in the first blocks, towards 1 in the last.
        blocks: where, ascending; default the first block after each quarter of the depth (3, 6, 9 of 12).
        threshold: of the variance of scores that sum to one, whose natural scale is one over the squared number of
            tokens: 7e-5 off the shelf and 6e-5 for fine-tuning belong to 224 pixels in patches of 16. 0 always prunes,
            infinity always pools. ``tools/analysis_tools/calibrate.py`` finds it.
        relative: the threshold is of the variance in units of the squared mean score, which does not depend on the
            number of tokens: for images of any size.
        proportional: pooled tokens draw attention in proportion to their size. Off, they also count as one in later
            averages (as published).
        order: of the tokens afterwards, by which later poolings decide who can meet whom. "published": by falling score
            after pruning, shuffled after pooling; "map": that of the grid.
        protect: "prefix" neither prunes nor scores any prefix token. "class" is the published code's way with a
            distillation token, which it scores as a patch and may prune; only for comparison with it.

    Raises:
        ValueError: an argument is out of its range.
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
    ) -> None:
        super().__init__(embed_dim, depth, r, inflection, check_blocks(blocks, depth), prop_attn, order)
        if not threshold >= 0:
            raise SettingError(f"threshold is {threshold}; it must be 0 (always prune) or more")
        if protect not in PROTECT:
            raise SettingError(f"protect is {protect!r}; choose one of {', '.join(PROTECT)}")
        self.threshold, self.relative, self.protect = threshold, relative, protect

    def after_attention(self, block: int, tokens: TokenSet, qkv: QKV, state: None) -> TokenSet:
        r = self.taken(block, tokens)
        if not r:
            return tokens
        with torch.no_grad():
            pool, score = self.decide(tokens, qkv)
            match = _prune(score, r)
            if self.threshold > 0:
                pooled = bipartite_matching(tokens.by_image(key_mean(qkv)), r, tokens.prefix)
                match = Match(*(torch.where(pool[:, None], a, b) for a, b in zip(pooled, match, strict=True)))
            if self.order == "map":
                match = match._replace(rows=sort_rows(match.rows, tokens))
        if not self.prop_attn:
            tokens = tokens.with_sizes(None)
        if not self.threshold:  # nothing was ever pooled
            return tokens.take(rows_of(match.rows, tokens), (match.rows.shape[1],) * tokens.batch)
        return merge(tokens, match, pool[:, None].expand_as(match.sources))

    def decide(self, tokens: TokenSet, qkv: QKV) -> tuple[Tensor, Tensor]:
        """For each image whether to pool (B,) bool, and the scores (B, n): they sum to one, protected tokens have
        infinity. An image with a NaN prunes."""
        unscored = tokens.prefix if self.protect == "prefix" else 1
        score = tokens.by_image(significance(tokens, qkv, unscored, self.prop_attn))
        spread = score[:, unscored:].var(dim=1)
        if self.relative:  # the mean of n scores that sum to one is 1 / n
            spread = spread * (score.shape[1] - unscored) ** 2
        return spread < self.threshold, torch.cat(
            [torch.full_like(score[:, :unscored], torch.inf), score[:, unscored:].nan_to_num(0)], dim=1
        )


def _prune(score: Tensor, r: int) -> Match:
    """The ``r`` lowest scores (B, n) leave; the others stand by falling score."""
    order = score.argsort(dim=1, descending=True, stable=True)
    kept, dropped = order[:, :-r], order[:, -r:]
    return Match(kept, dropped, torch.zeros_like(dropped))
