"""DynamicViT: predictors score the tokens at a few stages, and the lowest are dropped permanently.

"DynamicViT: Efficient Vision Transformers with Dynamic Token Sparsification", Rao et al., NeurIPS 2021.

Shapes: T packed tokens, S of them scored, B images, N positions, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..components.predictors import KEEP, DynamicViTSelector
from ..components.ranking import counts_of, gumbel_gate, gumbel_noise, keep_top
from ..components.schedules import check_blocks, check_ratios
from ..counts import Counts
from ..errors import SettingError
from ..losses import ratio_loss
from ..reducer import Decision, Reducer, register
from ..tokens import TokenSet


@dataclass
class State:
    """State of one forward pass in training.

    Attributes:
        policy: (T,), 1 where a token is kept so far.
        stages: the policy of the scored tokens after each stage, (B, S / B).
    """

    policy: Tensor | None = None
    stages: list[Tensor] = field(default_factory=list)


@register
class DynamicViT(Reducer):
    """A predictor before each listed block that scores the remaining tokens and drops the lowest.

    In training a Gumbel sample, multiplied by those of earlier stages, masks the dropped tokens as keys; in evaluation
    the tokens with the highest scores are kept, as many as the keep ratio says.

    All images of a batch keep equally many tokens in evaluation. Prefix tokens are not scored and always kept.

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.
        blocks: blocks with a predictor before them, ascending, from 1 on; default 3, 6, 9 of 12.
        keep_ratio: in (0, 1], relative to the remaining tokens, one for all stages or one per stage.
        preserve: dropped tokens keep their place and their last value in the dense map; False leaves zeros there, as
            the published method would (SViT, Table 5, compares both).
        ratio_loss_weight: 2.0 as published.

    Raises:
        SettingError: an argument is out of range.
    """

    needs_training = True

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        blocks: Sequence[int] | None = None,
        keep_ratio: Sequence[float] | float = 0.7,
        preserve: bool = True,
        ratio_loss_weight: float = 2.0,
    ) -> None:
        super().__init__(embed_dim, depth)
        blocks = check_blocks(blocks, depth)
        _check_arguments(blocks, ratio_loss_weight)
        ratios = check_ratios(keep_ratio, len(blocks))
        self.stage_of = {block: k for k, block in enumerate(blocks)}
        self.ratios = [math.prod(ratios[: k + 1]) for k in range(len(blocks))]
        self.preserve, self.ratio_loss_weight = preserve, ratio_loss_weight
        self.predictors = nn.ModuleList(DynamicViTSelector(embed_dim) for _ in blocks)

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(min(self.stage_of), self.depth))

    def start(self, tokens: TokenSet, score_fn: Callable | None = None) -> State:
        return State()

    def before_block(self, block: int, tokens: TokenSet, state: State) -> Decision | None:
        if not self.training or block < min(self.stage_of):
            return None
        stage = self.stage_of.get(block)
        if stage is not None:
            before = None if state.policy is None else _scored(tokens, state.policy)
            logp, counts = self._scores(stage, tokens, before)
            gate = gumbel_gate(logp, gumbel_noise(counts, 2, logp.device))[:, KEEP]
            gate = gate if before is None else gate * before
            state.stages.append(counts.by_image(gate))
            state.policy = _with_prefix(tokens, gate)
        assert state.policy is not None  # the first pruned block has a stage
        return Decision(state.policy > 0.5, state.policy[:, None], soft_keys=True)

    def after_prepend(self, tokens: TokenSet, number: int, state: State) -> None:
        if state.policy is not None:
            state.policy = tokens.prepend_to(state.policy, state.policy.new_ones(tokens.batch, number))

    def after_block(self, block: int, tokens: TokenSet, state: State) -> TokenSet:
        stage = self.stage_of.get(block + 1)
        if self.training or stage is None:
            return tokens
        logp, counts = self._scores(stage, tokens, None)
        number = math.trunc(tokens.grid[0] * tokens.grid[1] * self.ratios[stage])
        left = Counts.equal(min(number, counts.most), tokens.batch)
        keep = keep_top(logp[:, KEEP], counts, left)
        return tokens.select(_with_prefix(tokens, keep), left.plus(tokens.prefix))

    def _scores(self, stage: int, tokens: TokenSet, policy: Tensor | None) -> tuple[Tensor, Counts]:
        """Return log-probabilities (S, 2) of (keep, drop), and the number of scored tokens of each image."""
        counts = counts_of(tokens).plus(-tokens.prefix)
        return self.predictors[stage](_scored(tokens, tokens.x), counts, policy), counts

    def restore(self, tokens: TokenSet, state: State) -> Tensor:
        x = tokens.restore()
        if self.preserve:
            return x
        kept = tokens.members() if state.policy is None else tokens.by_image(state.policy)
        return x * kept[..., None]

    def losses(self, state: State) -> dict[str, Tensor]:
        """Return the ratio loss and the keep ratio of each stage.

        The loss is the squared distance of each image's keep ratio from its target, averaged over images and stages.
        """
        stages = zip(state.stages, self.ratios, strict=True)
        terms = [ratio_loss(gate, ratio, per_image=True) for gate, ratio in stages]
        logs = {
            f"keep_ratio.{block}": gate.detach().mean() for block, gate in zip(self.stage_of, state.stages, strict=True)
        }
        return {"loss_ratio": self.ratio_loss_weight * torch.stack(terms).mean(), **logs}


# In every set of this method, all prefix tokens are present and precede the other tokens of their image.
def _scored(tokens: TokenSet, values: Tensor) -> Tensor:
    """Return the entries (S, ...) of the scored tokens among per-token ``values`` (T, ...)."""
    return tokens.by_image(values)[:, tokens.prefix :].flatten(0, 1)


def _with_prefix(tokens: TokenSet, values: Tensor) -> Tensor:
    """Extend ``values`` (S,) of the scored tokens by ones for the prefix tokens, (T,)."""
    values = counts_of(tokens).plus(-tokens.prefix).by_image(values)
    return torch.cat([values.new_ones(tokens.batch, tokens.prefix), values], dim=1).flatten()


def _check_arguments(blocks: list[int], ratio_loss_weight: float) -> None:
    if blocks[0] == 0:
        raise SettingError(f"blocks = {blocks}: tokens are scored after the previous block, so start at block 1")
    if ratio_loss_weight < 0:
        raise SettingError(f"ratio_loss_weight is {ratio_loss_weight}; it must not be negative")
