"""SViT: a two-layer MLP per block picks the tokens that the block runs on ("Revisiting Token Pruning for Object
Detection and Instance Segmentation", Liu et al., WACV 2024).

Dropped tokens keep their values and their place (*preserve*), every later selector scores all tokens again
(*reactivate*), and the number kept differs from image to image (*dynamic rate*).

Shapes: T packed tokens, S of them scored, B images, N positions, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import EllipsisType

import torch
from torch import Tensor, nn

from ..components.predictors import GATES, KEEP
from ..components.ranking import gumbel_gate, gumbel_noise, keep_top, sum_per_image
from ..errors import SettingError
from ..losses import ratio_loss
from ..reducer import Decision, Reducer, register
from ..tokens import TokenSet

MODES = ("target", "threshold", "ratio", "sample")


@dataclass
class State:
    """What one forward remembers: the last decision and its selector, the decision that the current block follows (the
    same, but without gradient where it is reused), and what each decision kept (for the losses)."""

    decision: Decision | None = None
    selector: int | None = None
    in_force: Decision | None = None
    kept: list[tuple[int, int, Tensor]] = field(default_factory=list)  # block, selector, (B, S/B) gate


@register
class SViT(Reducer):
    """Per-block MLP selectors, trained by Gumbel straight-through and a ratio loss.

    Args:
        embed_dim, depth: of the host.
        blocks: numbers (from 0) of the pruned blocks, ascending. Default: all but the first quarter, as published.
        keep_ratio: wanted kept fraction in (0, 1], one per selector, or one for all.
        selectors: selector of each block in ``blocks``, counted from 0; default one of its own for every block.
        reuse: consecutive blocks with the same selector share one decision; False decides anew with shared weights.
        inherit: a dropped token stays dropped (no reactivation): decisions are multiplied with the one before.
        preserve: False zeroes the tokens that a block drops (the ablation of the paper's first insight).
        gate: the selectors' network, "mlp" as published or the heavier "dynamicvit", which also sees a mean of the
            image (for the fourth insight).
        ratio_loss: "batch" holds the mean over the batch to the ratio, "image" every single image.
        ratio_loss_weight: 4.0 as published.
        all_processes: the ratio loss's batch is that of all processes.
        class_tokens: "keep" excludes prefix tokens from scoring and always keeps them (published version 1), "score"
            treats them like all others (version 0).
        last_class_tokens: the same for the last selector alone; None for ``class_tokens``.
        tau: Gumbel-softmax temperature.
        norm_eps: of the selectors' LayerNorm.
        mode: how evaluation turns keep probabilities p into a mask. "target": as many as p sums to in this image, the
            highest p first (deterministic, unbiased); "threshold": p > 0.5; "ratio": exactly the configured ratio, the
            highest p first; "sample": Gumbel noise as in training (what the published evaluation does). With
            ``inherit`` only tokens that are still kept have a p; the ratio is of all tokens.
        ratio_scale: factor on p (on the ratio in mode "ratio") in evaluation: the speed setting that needs no training.
        capacity_scale: in executions of fixed capacity, a block's capacity in units of the wanted ratio; images differ.
        training: "exact" computes all tokens in training, the dropped ones masked as keys; "packed" only the kept ones,
            which makes the step cheaper than the dense one: a selector then learns from a dropped token only through
            the ratio loss.
        seed: of "sample"; with it an image gets the same noise in whatever batch it stands, other noise in each block.
            None draws fresh noise.

    Raises:
        ValueError: an argument is out of its range or two do not fit together.
    """

    cost_param = ("ratio_scale", 0.0, 10.0)

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        blocks: Sequence[int] | None = None,
        keep_ratio: Sequence[float] | float = 0.7,
        selectors: Sequence[int] | None = None,
        reuse: bool = True,
        inherit: bool = False,
        preserve: bool = True,
        gate: str = "mlp",
        ratio_loss: str = "batch",
        ratio_loss_weight: float = 4.0,
        all_processes: bool = False,
        class_tokens: str = "keep",
        last_class_tokens: str | None = None,
        tau: float = 1.0,
        norm_eps: float = 1e-5,
        mode: str = "target",
        ratio_scale: float = 1.0,
        capacity_scale: float = 1.25,
        training: str = "exact",
        seed: int | None = None,
    ) -> None:
        super().__init__(embed_dim, depth)
        if training not in ("exact", "packed"):
            raise SettingError(f"training is {training!r}; choose 'exact' or 'packed'")
        self.training_mode = training
        if not tau > 0 or ratio_loss_weight < 0:
            raise SettingError(
                f"tau {tau} must be greater than 0 and ratio_loss_weight {ratio_loss_weight} not negative"
            )
        blocks = list(range(depth // 4, depth) if blocks is None else blocks)
        selectors = list(range(len(blocks)) if selectors is None else selectors)
        number = max(selectors, default=-1) + 1
        ratios = [keep_ratio] * number if isinstance(keep_ratio, (int, float)) else list(keep_ratio)
        _check(depth, blocks, selectors, ratios, gate, ratio_loss, class_tokens, last_class_tokens)
        self.selector_of = dict(zip(blocks, selectors, strict=True))
        self.keep_ratio, self.reuse, self.inherit, self.preserve, self.tau = ratios, reuse, inherit, preserve, tau
        self.per_image, self.all_processes = ratio_loss == "image", all_processes
        self.ratio_loss_weight = ratio_loss_weight
        self.class_tokens = [class_tokens] * number
        if last_class_tokens is not None:
            self.class_tokens[-1] = last_class_tokens
        self.selectors = nn.ModuleList(GATES[gate](embed_dim, norm_eps) for _ in range(number))
        self.configure(mode=mode, ratio_scale=ratio_scale, seed=seed, capacity_scale=capacity_scale)

    def configure(
        self,
        mode: str | None = None,
        ratio_scale: float | None = None,
        seed: int | None | EllipsisType = ...,
        capacity_scale: float | None = None,
    ) -> None:
        """Change how evaluation selects, any time; what is not given stays as it is.

        Raises:
            ValueError: unknown mode, or a scale that is not positive.
        """
        if mode is not None and mode not in MODES:
            raise SettingError(f"unknown selection mode {mode!r}; choose one of {', '.join(MODES)}")
        if ratio_scale is not None and not ratio_scale > 0:
            raise SettingError(f"ratio_scale is {ratio_scale}; it must be greater than 0 (1 is as trained)")
        if capacity_scale is not None and not capacity_scale > 0:
            raise SettingError(
                f"capacity_scale is {capacity_scale}; it must be greater than 0 (1 makes the capacity the wanted ratio)"
            )
        self.capacity_scale = capacity_scale or getattr(self, "capacity_scale", 1.25)
        self.mode = mode or getattr(self, "mode", "target")
        self.ratio_scale = ratio_scale or getattr(self, "ratio_scale", 1.0)
        self.seed = getattr(self, "seed", None) if seed is ... else seed

    @property
    def pruned_blocks(self) -> list[int]:
        return list(self.selector_of)

    def start(self, tokens: TokenSet, score_fn: None = None) -> State:
        return State()

    def before_block(self, block: int, tokens: TokenSet, state: State) -> Decision | None:
        selector = self.selector_of.get(block)
        if selector is None:
            return None
        if self.reuse and selector == state.selector:
            # A reused decision blends as before but teaches its selector only once.
            gate = None if state.decision.gate is None else state.decision.gate.detach()
            state.in_force = replace(state.decision, gate=gate)
        else:
            state.decision = state.in_force = self._decide(block, selector, tokens, state)
            state.selector = selector
        return state.in_force

    def _decide(self, block: int, selector: int, tokens: TokenSet, state: State) -> Decision:
        prefix = tokens.prefix if self.class_tokens[selector] == "keep" else 0  # tokens of an image that are not scored

        def scores_only(values: Tensor) -> Tensor:
            return tokens.split_prefix(values)[1] if prefix else values

        def with_prefix(values: Tensor, fill: float) -> Tensor:
            return tokens.join_prefix(values.new_full((prefix * tokens.batch,), fill), values) if prefix else values

        scored = scores_only(tokens.x)
        counts = tuple(n - prefix for n in tokens.counts)
        logp = self.selectors[selector](scored, counts)
        before = state.decision if self.inherit else None
        if not self.training:
            left = None if before is None else scores_only(before.keep)
            keep = with_prefix(self._choose(logp, counts, selector, left, block), True)
            if before is not None:
                return Decision(keep & before.keep, score=with_prefix(logp[:, KEEP], torch.inf))
            known = tuple(prefix + n for n in self._wanted(counts, selector)) if self.mode == "ratio" else None
            return Decision(keep, counts=known, score=with_prefix(logp[:, KEEP], torch.inf))
        gate = with_prefix(self._gumbel_gate(logp, counts), 1.0)
        keep = gate > 0.5
        if before is not None:
            keep, gate = keep & before.keep, gate * before.gate.squeeze(1)
        state.kept.append((block, selector, scores_only(gate).view(tokens.batch, -1)))
        return Decision(keep, gate[:, None], packed=self.training_mode == "packed")

    def _gumbel_gate(self, logp: Tensor, counts: tuple[int, ...]) -> Tensor:
        """(S,) sampled 0/1 mask with the gradient of its softmax (straight through)."""
        return gumbel_gate(logp, self.noise(counts, logp.device, None), self.tau)[:, KEEP]

    def noise(self, counts: tuple[int, ...], device: torch.device, seed: int | None) -> Tensor:
        """(S, 2) Gumbel samples for one decision."""
        return gumbel_noise(counts, 2, device, seed)

    def _choose(self, logp: Tensor, counts: tuple[int, ...], selector: int, left: Tensor | None, block: int) -> Tensor:
        """(S,) bool for evaluation, by ``mode``; ``left`` (S,) are the tokens that can be kept at all, None for all."""
        score = logp[:, KEEP] if left is None else logp[:, KEEP].masked_fill(~left, -torch.inf)
        if self.mode == "ratio":
            return keep_top(score, counts, self._wanted(counts, selector))
        p = (score.exp() * self.ratio_scale).clamp(max=1)
        if self.mode == "target":
            return keep_top(score, counts, sum_per_image(p, counts).round().long())
        if self.mode == "threshold":
            return p > 0.5 if self.ratio_scale != 1 else logp[:, KEEP] > logp[:, 1 - KEEP]
        noise = self.noise(counts, logp.device, None if self.seed is None else self.seed + block)
        scaled = logp if self.ratio_scale == 1 else torch.stack([p, 1 - p], dim=1).log()
        return (scaled + noise).argmax(dim=1) == KEEP

    def _wanted(self, counts: tuple[int, ...], selector: int) -> tuple[int, ...]:
        """How many scored tokens mode "ratio" keeps of each image."""
        fraction = min(1.0, self.keep_ratio[selector] * self.ratio_scale)
        return tuple(round(fraction * n) for n in counts)

    def capacity(self, block: int) -> float:
        return min(1.0, self.keep_ratio[self.selector_of[block]] * self.ratio_scale * self.capacity_scale)

    def after_block(self, block: int, tokens: TokenSet, state: State) -> TokenSet:
        if self.preserve or block not in self.selector_of:
            return tokens
        gate = state.in_force.gate
        return tokens.with_x(tokens.x * (state.in_force.keep[:, None] if gate is None else gate))

    def losses(self, state: State) -> dict[str, Tensor]:
        """Weighted mean ratio loss of the decisions, and each decision's kept fraction."""
        terms = [
            ratio_loss(gate, self.keep_ratio[selector], self.per_image, self.all_processes)
            for _, selector, gate in state.kept
        ]
        if not terms:
            return {}
        logs = {f"keep_ratio.{block}": gate.detach().mean() for block, _, gate in state.kept}
        return {"loss_ratio": self.ratio_loss_weight * torch.stack(terms).mean(), **logs}


def _check(
    depth: int,
    blocks: list[int],
    selectors: list[int],
    ratios: list[float],
    gate: str,
    loss: str,
    class_tokens: str,
    last_class_tokens: str | None,
) -> None:
    if not blocks or sorted(set(blocks)) != blocks or blocks[0] < 0 or blocks[-1] >= depth:
        raise SettingError(f"blocks = {blocks}: list block numbers from 0 to {depth - 1}, ascending, each once")
    if len(selectors) != len(blocks) or sorted(set(selectors)) != list(range(max(selectors) + 1)):
        raise SettingError(
            f"selectors = {selectors}: give one selector number to each of the {len(blocks)} blocks, "
            "numbered from 0 without gaps"
        )
    if len(ratios) != max(selectors) + 1:
        raise SettingError(
            f"keep_ratio has {len(ratios)} entries for {max(selectors) + 1} selectors; "
            "give one ratio, or one per selector"
        )
    for ratio in ratios:
        if not 0 < ratio <= 1:
            raise SettingError(f"keep_ratio {ratio} is outside (0, 1]; 1 keeps every token")
    if gate not in GATES:
        raise SettingError(f"gate is {gate!r}; choose one of {', '.join(GATES)}")
    if loss not in ("batch", "image"):
        raise SettingError(f"ratio_loss is {loss!r}; choose 'batch' or 'image'")
    for value in (class_tokens, last_class_tokens):
        if value not in ("keep", "score", None):
            raise SettingError(f"class_tokens is {value!r}; choose 'keep' or 'score'")
