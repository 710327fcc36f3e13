"""DynamicViT: predictors score the tokens at a few stages, the lowest leave for good ("DynamicViT: Efficient Vision
Transformers with Dynamic Token Sparsification", Rao et al., NeurIPS 2021).

Shapes: T packed tokens, S of them scored, B images, N positions, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..components.predictors import KEEP, DynamicViTSelector
from ..components.ranking import gumbel_gate, gumbel_noise, keep_top
from ..components.schedules import check_blocks, check_ratios
from ..errors import SettingError
from ..losses import ratio_loss
from ..reducer import Decision, Reducer, register
from ..tokens import TokenSet


@dataclass
class State:
    """In training: the policy (T,) so far, 1 where a token is kept, and that of each stage (B, S / B)."""

    policy: Tensor | None = None
    stages: list[Tensor] = field(default_factory=list)


@register
class DynamicViT(Reducer):
    """Before each listed block a predictor scores the tokens that are left. In training a Gumbel sample, multiplied
    with the stages before, masks the dropped ones as keys; in evaluation as many as the ratio says go on, the best.

    All images of a batch keep equally many tokens in evaluation. Prefix tokens are not scored and always stay.

    Args:
        embed_dim, depth: of the host.
        blocks: before which the predictors stand, ascending, from 1 on; default 3, 6, 9 of 12.
        keep_ratio: in (0, 1], of the tokens that are left, or one per stage.
        preserve: tokens that left keep their place and their last value on the map; False leaves zeros there, as a map
            of the published method would (SViT, Table 5, compares both).
        ratio_loss_weight: 2.0 as published.

    Raises:
        ValueError: an argument is out of its range.
    """

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
        if blocks[0] == 0:
            raise SettingError(f"blocks = {blocks}: tokens are scored after the block before, so the first is block 1")
        if ratio_loss_weight < 0:
            raise SettingError(f"ratio_loss_weight is {ratio_loss_weight}; it must not be negative")
        ratios = check_ratios(keep_ratio, len(blocks))
        self.stage_of = {block: k for k, block in enumerate(blocks)}
        self.ratios = [math.prod(ratios[: k + 1]) for k in range(len(blocks))]
        self.preserve, self.ratio_loss_weight = preserve, ratio_loss_weight
        self.predictors = nn.ModuleList(DynamicViTSelector(embed_dim) for _ in blocks)

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(min(self.stage_of), self.depth))

    def start(self, tokens: TokenSet, score_fn: None = None) -> State:
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
            state.stages.append(gate.view(tokens.batch, -1))
            state.policy = _with_prefix(tokens, gate)
        return Decision(state.policy > 0.5, state.policy[:, None], soft_keys=True)

    def after_block(self, block: int, tokens: TokenSet, state: State) -> TokenSet:
        stage = self.stage_of.get(block + 1)
        if self.training or stage is None:
            return tokens
        logp, counts = self._scores(stage, tokens, None)
        wanted = min(int(tokens.grid[0] * tokens.grid[1] * self.ratios[stage]), counts[0])
        keep = keep_top(logp[:, KEEP], counts, (wanted,) * tokens.batch)
        return tokens.select(_with_prefix(tokens, keep), (tokens.prefix + wanted,) * tokens.batch)

    def _scores(self, stage: int, tokens: TokenSet, policy: Tensor | None) -> tuple[Tensor, tuple[int, ...]]:
        """Log-probabilities (S, 2) of keeping and dropping, and how many tokens of each image are scored."""
        counts = tuple(n - tokens.prefix for n in tokens.counts)
        return self.predictors[stage](_scored(tokens, tokens.x), counts, policy), counts

    def restore(self, tokens: TokenSet, state: State) -> Tensor:
        dense_map = tokens.restore()
        if self.preserve:
            return dense_map
        left = tokens.members() if state.policy is None else state.policy.view(tokens.batch, -1)
        return dense_map * left[..., None]

    def losses(self, state: State) -> dict[str, Tensor]:
        """Weighted mean over the stages of the squared distance of each image's kept fraction from the wanted one."""
        stages = zip(state.stages, self.ratios, strict=True)
        terms = [ratio_loss(gate, ratio, per_image=True) for gate, ratio in stages]
        logs = {
            f"keep_ratio.{block}": gate.detach().mean() for block, gate in zip(self.stage_of, state.stages, strict=True)
        }
        return {"loss_ratio": self.ratio_loss_weight * torch.stack(terms).mean(), **logs}


# The prefix tokens of an image are all there and stand before the others, in any set that this method makes.
def _scored(tokens: TokenSet, values: Tensor) -> Tensor:
    """Of per-token ``values`` (T, ...) those of the scored tokens (S, ...)."""
    return tokens.by_image(values)[:, tokens.prefix :].flatten(0, 1)


def _with_prefix(tokens: TokenSet, values: Tensor) -> Tensor:
    """``values`` (S,) of the scored tokens with ones for the prefix tokens (T,)."""
    values = values.unflatten(0, (tokens.batch, -1))
    return torch.cat([values.new_ones(tokens.batch, tokens.prefix), values], dim=1).flatten()
