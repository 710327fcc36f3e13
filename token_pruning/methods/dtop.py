"""DToP: tokens whose class is sure leave for good ("Dynamic Token Pruning in Plain Vision Transformers for Semantic
Segmentation", Tang et al., ICCV 2023, section 3.2).

Shapes: T packed tokens, B images, K classes, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import SettingError
from ..reducer import Reducer, register
from ..tokens import TokenSet

Judge = Callable[[int, TokenSet], Tensor]


def sure_tokens(
    scores: Tensor, counts: Sequence[int], threshold: float, keep_per_class: int = 5, candidates: Tensor | None = None
) -> Tensor:
    """Which tokens are easy and not needed as context.

    A token is easy if its best class score is above the threshold (equality is not). Of the easy tokens of an image
    that have the same best class, the ``keep_per_class`` with the highest scores stay. Of equal scores the earlier
    token stays; scores that are not a number are never easy.

    Args:
        scores: (T, K), image after image.
        counts: number of tokens of each image.
        candidates: (T,) bool, the tokens that may leave; None for all.

    Returns:
        (T,) bool, True for those that leave.
    """
    value, label = scores.max(1)
    easy = value > threshold
    if candidates is not None:
        easy = easy & candidates
    if not keep_per_class:
        return easy
    batch, classes = len(counts), scores.shape[1]
    image = torch.arange(batch, device=scores.device)
    if len(set(counts)) > 1:
        image = image.repeat_interleave(torch.tensor(counts, device=scores.device), output_size=len(scores))
    elif batch:
        image = image[:, None].expand(-1, counts[0]).reshape(-1)
    # Groups of one image and class; all that are not easy form the last one.
    group = torch.where(easy, image * classes + label, batch * classes)
    order = value.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    arranged = group[order]
    rank = torch.arange(len(group), device=group.device) - torch.searchsorted(arranged, arranged)
    return easy & torch.empty_like(easy).index_copy(0, order, rank >= keep_per_class)


@dataclass
class State:
    """Of one forward: who judges and, in training, which fraction of all positions goes on after each stage."""

    score_fn: Judge | None
    kept: dict[int, Tensor] = field(default_factory=dict)


@register
class DToP(Reducer):
    """After each stage a *judge* gives every token that is still there a score for each class. Sure tokens leave for
    good, with the value they have; a few of each class stay as context for the others.

    The judge is a function ``score_fn(block, tokens) -> scores``, (T, K) in [0, 1], that the host hands over for one
    forward (an auxiliary head of a segmentor): the backbone knows no head. It is asked only where a threshold is set.

    Args:
        embed_dim, depth: of the host.
        stages: blocks after which tokens may leave, ascending, the last block excluded; default after a half and two
            thirds of the depth (5 and 7 of 12).
        threshold: in (0, 1], or one of each stage; None: no token leaves there.
        keep_per_class: how many of an image's sure tokens of one class stay.
        class_tokens: "protect": prefix tokens always stay; "score": they are judged like any other, as published.
        judge: asked where the host hands none over (a function of the tokens for timm's models, for example).

    Raises:
        ValueError: an argument is out of its range, or (at the first token set) nobody judges.
    """

    fixed_shapes = False
    needs_class_scores = True
    cost_param = ("threshold", 0.0, 1.0)

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        stages: Sequence[int] | None = None,
        threshold: Sequence[float | None] | float | None = 0.9,
        keep_per_class: int = 5,
        class_tokens: str = "protect",
        score_fn: Judge | None = None,
    ) -> None:
        super().__init__(embed_dim, depth)
        if stages is None:
            stages = sorted({max(depth // 2 - 1, 0), max(2 * depth // 3 - 1, 0)} - {depth - 1})
        if not stages or sorted({*stages} & {*range(depth - 1)}) != list(stages):
            raise SettingError(
                f"stages = {stages}: list block numbers from 0 to {depth - 2}, ascending, each once "
                "(after the last block there is nothing left to save)"
            )
        single = threshold is None or isinstance(threshold, (int, float))
        thresholds = [threshold] * len(stages) if single else list(threshold)
        if len(thresholds) != len(stages) or any(t is not None and not 0 < t <= 1 for t in thresholds):
            raise SettingError(
                f"threshold = {threshold}: give one in (0, 1] or None (nobody leaves), or one for each of "
                f"the {len(stages)} stages"
            )
        if not isinstance(keep_per_class, int) or keep_per_class < 0:
            raise SettingError(f"keep_per_class is {keep_per_class}; it must be a whole number, 0 or more")
        if class_tokens not in ("protect", "score"):
            raise SettingError(f"class_tokens is {class_tokens!r}; choose 'protect' or 'score'")
        self.threshold_of = {s: t for s, t in zip(stages, thresholds, strict=True) if t is not None}
        self.stages, self.keep_per_class, self.class_tokens = list(stages), keep_per_class, class_tokens
        self.score_fn = score_fn

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(min(self.threshold_of) + 1, self.depth)) if self.threshold_of else []

    def start(self, tokens: TokenSet, score_fn: Judge | None = None) -> State:
        score_fn = score_fn or self.score_fn
        if score_fn is None and self.threshold_of:
            raise SettingError(
                "DToP lets tokens leave by the scores of an auxiliary head and nobody gives any: run "
                "it in DToPSegmentor, or hand a function over as `judge`"
            )
        return State(score_fn)

    def after_block(self, block: int, tokens: TokenSet, state: State) -> TokenSet:
        if block not in self.threshold_of:
            return tokens
        scores = state.score_fn(block, tokens).detach()
        protected = tokens.prefix and self.class_tokens == "protect"
        leave = sure_tokens(
            scores,
            tokens.counts,
            self.threshold_of[block],
            self.keep_per_class,
            ~tokens.is_prefix() if protected else None,
        )
        left = tokens.select(~leave)
        if self.training:  # on the tokens' device: logs are averaged over processes there
            share = sum(left.counts) / max(left.batch * left.positions, 1)
            state.kept[block] = torch.full((), share, device=left.x.device)
        return left

    def losses(self, state: State) -> dict[str, Tensor]:
        return {f"keep_ratio.{block}": kept for block, kept in state.kept.items()}
