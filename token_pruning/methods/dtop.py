"""DToP: tokens with a confident class prediction exit early.

"Dynamic Token Pruning in Plain Vision Transformers for Semantic Segmentation", Tang et al., ICCV 2023, section 3.2.

Shapes: T packed tokens, B images, K classes, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..components.ranking import counts_of
from ..counts import Counts
from ..errors import SettingError
from ..reducer import Reducer, register
from ..tokens import TokenSet

ScoreFn = Callable[[int, TokenSet], Tensor]


def confident_tokens(
    scores: Tensor, counts: Counts, threshold: float, keep_per_class: int = 5, candidates: Tensor | None = None
) -> Tensor:
    """Return the tokens that exit: confidently classified and not needed as context.

    A token is easy if its best class score is strictly above the threshold. Of the easy tokens of an image that share
    their best class, the ``keep_per_class`` with the highest scores stay as context. Of equal scores the earlier token
    stays; tokens with a NaN score are never easy.

    Args:
        scores: (T, K), image after image.
        counts: number of tokens of each image.
        threshold: confidence threshold.
        keep_per_class: number of easy tokens of each image and class that stay.
        candidates: (T,) bool, the tokens that may exit; None for all.

    Returns:
        (T,) bool, True for tokens that exit.
    """
    value, label = scores.max(1)
    easy = value > threshold
    if candidates is not None:
        easy = easy & candidates
    if not keep_per_class:
        return easy
    batch, classes = counts.batch, scores.shape[1]
    image = counts.per_token(torch.arange(batch, device=scores.device))
    # One group per image and class; all tokens that are not easy form the last group.
    group = torch.where(easy, image * classes + label, batch * classes)
    order = value.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    arranged = group[order]
    rank = torch.arange(len(group), device=group.device) - torch.searchsorted(arranged, arranged)
    return easy & torch.empty_like(easy).index_copy(0, order, rank >= keep_per_class)


@dataclass
class State:
    """State of one forward pass.

    Attributes:
        score_fn: the score function of this forward.
        kept: in training, block -> fraction of all positions that remain after its stage.
    """

    score_fn: ScoreFn | None
    kept: dict[int, Tensor] = field(default_factory=dict)


@register
class DToP(Reducer):
    """Early exit of confident tokens after each stage, by class scores that the host supplies.

    Tokens that exit keep their current value; a few of each class stay as context for the others.

    The host passes a function ``score_fn(block, tokens) -> scores``, (T, K) in [0, 1], for each forward (an auxiliary
    head of a segmentor), because the backbone has no heads. It is called only at stages with a threshold.

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.
        stages: blocks after which tokens may exit, ascending, the last block excluded; default after one half and two
            thirds of the depth (blocks 5 and 7 of 12).
        threshold: in (0, 1], one for all stages or one for each; None: no token exits there.
        keep_per_class: how many confident tokens of one class stay in each image.
        class_tokens: "protect": prefix tokens always stay; "score": they are scored like any other, as published.
        score_fn: used where the host passes none (with a timm model, for example).

    Raises:
        SettingError: an argument is out of range, or (at the first token set) there is no score function.
    """

    fixed_shapes = False
    needs_class_scores = True
    cost_param = ("threshold", 0.0, 1.0)
    keep_all = {"threshold": None}

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        stages: Sequence[int] | None = None,
        threshold: Sequence[float | None] | float | None = 0.9,
        keep_per_class: int = 5,
        class_tokens: str = "protect",
        score_fn: ScoreFn | None = None,
    ) -> None:
        super().__init__(embed_dim, depth)
        if stages is None:
            stages = sorted({max(depth // 2 - 1, 0), max(2 * depth // 3 - 1, 0)} - {depth - 1})
        _check_stages(depth, stages)
        thresholds = _thresholds_of(threshold, len(stages))
        _check_class_options(keep_per_class, class_tokens)
        self.threshold_of = {s: t for s, t in zip(stages, thresholds, strict=True) if t is not None}
        self.stages, self.keep_per_class, self.class_tokens = list(stages), keep_per_class, class_tokens
        self.score_fn = score_fn

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(min(self.threshold_of) + 1, self.depth)) if self.threshold_of else []

    def start(self, tokens: TokenSet, score_fn: ScoreFn | None = None) -> State:
        score_fn = score_fn or self.score_fn
        if score_fn is None and self.threshold_of:
            raise SettingError(
                "DToP drops tokens by the class scores of an auxiliary head, and there are none: run it in "
                "DToPSegmentor, or pass a function as `score_fn`"
            )
        return State(score_fn)

    def after_block(self, block: int, tokens: TokenSet, state: State) -> TokenSet:
        if block not in self.threshold_of:
            return tokens
        assert state.score_fn is not None  # `start` checks it
        scores = state.score_fn(block, tokens).detach()
        protected = tokens.prefix if self.class_tokens == "protect" else tokens.late
        candidates = ~tokens.is_prefix(protected) if protected else None
        threshold = self.threshold_of[block]
        leave = confident_tokens(scores, counts_of(tokens), threshold, self.keep_per_class, candidates)
        kept = tokens.select(~leave)
        if self.training:  # on the tokens' device, where logs are averaged over processes
            ratio = len(kept.x) / max(kept.batch * kept.positions, 1)
            state.kept[block] = torch.full((), ratio, device=kept.x.device)
        return kept

    def losses(self, state: State) -> dict[str, Tensor]:
        """Return the keep ratio after each stage, for the log; DToP has no loss."""
        return {f"keep_ratio.{block}": kept for block, kept in state.kept.items()}


def _check_stages(depth: int, stages: Sequence[int]) -> None:
    if not stages or sorted({*stages} & {*range(depth - 1)}) != list(stages):
        raise SettingError(
            f"stages = {stages}: list block numbers from 0 to {depth - 2}, ascending, each once "
            "(after the last block there is nothing left to save)"
        )


def _thresholds_of(threshold: Sequence[float | None] | float | None, stages: int) -> list[float | None]:
    if threshold is None or isinstance(threshold, (int, float)):
        thresholds = [threshold] * stages
    else:
        thresholds = list(threshold)
    if len(thresholds) != stages or any(t is not None and not 0 < t <= 1 for t in thresholds):
        raise SettingError(
            f"threshold = {threshold}: give one in (0, 1] or None (no token exits), or one for each of the "
            f"{stages} stages"
        )
    return thresholds


def _check_class_options(keep_per_class: int, class_tokens: str) -> None:
    if not isinstance(keep_per_class, int) or keep_per_class < 0:
        raise SettingError(f"keep_per_class is {keep_per_class}; it must be a whole number, 0 or more")
    if class_tokens not in ("protect", "score"):
        raise SettingError(f"class_tokens is {class_tokens!r}; choose 'protect' or 'score'")
