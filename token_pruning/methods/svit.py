"""SViT: a two-layer MLP per block selects the tokens that the block runs on.

"Revisiting Token Pruning for Object Detection and Instance Segmentation", Liu et al., WACV 2024. Dropped tokens keep
their values and their place in the dense map (*preserve*), every later selector scores all tokens again
(*reactivate*), and the number of kept tokens differs from image to image (*dynamic rate*).

Shapes: T packed tokens, S of them scored, B images, N positions, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ..components.predictors import GATES, KEEP
from ..components.ranking import counts_of, gumbel_gate, gumbel_noise, keep_top, sum_per_image
from ..components.schedules import check_blocks
from ..counts import Counts
from ..errors import SettingError
from ..losses import ratio_loss
from ..reducer import Decision, Reducer, register
from ..tokens import TokenSet

MODES = ("target", "threshold", "ratio", "sample")


@dataclass
class State:
    """State of one forward pass.

    Attributes:
        decision: the last decision.
        selector: number of the selector that made it.
        in_force: the decision that the current block follows: ``decision``, without gradient where it is reused.
        kept: (block, selector, gate (B, S / B)) of each decision in training, for the losses.
    """

    decision: Decision | None = None
    selector: int | None = None
    in_force: Decision | None = None
    kept: list[tuple[int, int, Tensor]] = field(default_factory=list)


@register
class SViT(Reducer):
    """Per-block MLP selectors, trained by Gumbel straight-through and a ratio loss.

    The evaluation settings ``mode``, ``ratio_scale``, ``seed`` and ``capacity_scale`` are plain attributes; they may be
    changed at any time.

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.
        blocks: numbers (from 0) of the pruned blocks, ascending. Default: all but the first quarter, as published.
        keep_ratio: target keep ratio in (0, 1], one per selector or one for all.
        selectors: number (from 0) of the selector of each block in ``blocks``; default one selector per block.
        reuse: consecutive blocks with the same selector share one decision; False decides again in each block, with
            shared weights.
        inherit: a dropped token stays dropped (no reactivation): each decision is multiplied by the previous one.
        preserve: False zeroes the tokens that a block drops (the ablation of the paper's first insight).
        gate: architecture of the selectors: "mlp" as published, or the heavier "dynamicvit", which also uses the mean
            over the image (the ablation of the fourth insight).
        ratio_loss: "batch" compares the mean over the batch with the keep ratio, "image" every single image.
        ratio_loss_weight: 4.0 as published.
        all_processes: compute the ratio loss over the batch of all processes.
        class_tokens: "keep" excludes prefix tokens from scoring and always keeps them (published version 1), "score"
            treats them like all others (version 0).
        last_class_tokens: the same for the last selector alone; None for the value of ``class_tokens``.
        tau: Gumbel-softmax temperature.
        norm_eps: epsilon of the selectors' LayerNorm.
        mode: how evaluation turns keep probabilities p into a mask. "target": keep as many tokens as the sum of p over
            the image, highest p first (deterministic, unbiased); "threshold": p > 0.5; "ratio": exactly the configured
            keep ratio, highest p first; "sample": Gumbel noise as in training (as in the published evaluation). With
            ``inherit`` only tokens that are still kept have a p; the ratio is relative to all tokens.
        ratio_scale: factor on p (on the keep ratio in mode "ratio") in evaluation: changes speed without retraining.
        capacity_scale: with ``execution="capacity"``, a block's capacity as a multiple of its keep ratio; above 1
            because images differ.
        training: "exact" computes all tokens in training and masks the dropped ones as keys; "packed" computes the kept
            ones only, which makes the training step cheaper than the dense one: a selector then learns from a dropped
            token only through the ratio loss.
        seed: seed of mode "sample"; an image then gets the same noise in any batch, and different noise in each block.
            None draws new noise every time.

    Raises:
        SettingError: an argument is out of range or two arguments do not fit together.
    """

    needs_training = True
    cost_param = ("ratio_scale", 0.0, 10.0)
    keep_all = {"keep_ratio": 1.0, "mode": "ratio"}

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
        blocks = list(range(depth // 4, depth) if blocks is None else blocks)
        selectors = list(range(len(blocks)) if selectors is None else selectors)
        number = max(selectors, default=-1) + 1
        ratios = [keep_ratio] * number if isinstance(keep_ratio, (int, float)) else list(keep_ratio)
        _check_selectors(depth, blocks, selectors, ratios)
        _check_choice("gate", gate, GATES)
        _check_choice("ratio_loss", ratio_loss, ("batch", "image"))
        _check_choice("class_tokens", class_tokens, ("keep", "score"))
        last_class_tokens = class_tokens if last_class_tokens is None else last_class_tokens
        _check_choice("last_class_tokens", last_class_tokens, ("keep", "score"))
        _check_choice("mode", mode, MODES)
        _check_choice("training", training, ("exact", "packed"))
        _check_numbers(tau, ratio_loss_weight, ratio_scale, capacity_scale)
        self.selector_of = dict(zip(blocks, selectors, strict=True))
        self.keep_ratio, self.reuse, self.inherit, self.preserve, self.tau = ratios, reuse, inherit, preserve, tau
        self.per_image, self.all_processes = ratio_loss == "image", all_processes
        self.ratio_loss_weight = ratio_loss_weight
        self.class_tokens = [class_tokens] * (number - 1) + [last_class_tokens]
        self.training_mode = training
        self.mode, self.ratio_scale, self.seed, self.capacity_scale = mode, ratio_scale, seed, capacity_scale
        self.selectors = nn.ModuleList(GATES[gate](embed_dim, norm_eps) for _ in range(number))

    @property
    def pruned_blocks(self) -> list[int]:
        return list(self.selector_of)

    def start(self, tokens: TokenSet, score_fn: Callable | None = None) -> State:
        return State()

    def before_block(self, block: int, tokens: TokenSet, state: State) -> Decision | None:
        selector = self.selector_of.get(block)
        if selector is None:
            return None
        if self.reuse and state.decision is not None and selector == state.selector:
            # A reused decision blends as before, but its selector receives gradients only once.
            gate = None if state.decision.gate is None else state.decision.gate.detach()
            state.in_force = replace(state.decision, gate=gate)
        else:
            state.decision = state.in_force = self._decide(block, selector, tokens, state)
            state.selector = selector
        return state.in_force

    def after_prepend(self, tokens: TokenSet, number: int, state: State) -> None:
        if state.decision is not None:  # `in_force` is set anew in every pruned block
            state.decision = state.decision.prepended(tokens, number)

    def _decide(self, block: int, selector: int, tokens: TokenSet, state: State) -> Decision:
        # Tokens of an image that are not scored.
        prefix = tokens.prefix if self.class_tokens[selector] == "keep" else tokens.late

        def scored(values: Tensor) -> Tensor:
            return tokens.split_prefix(values, prefix)[1] if prefix else values

        def with_prefix(values: Tensor, fill: float) -> Tensor:
            new = values.new_full((prefix * tokens.batch,), fill)
            return tokens.join_prefix(new, values, prefix) if prefix else values

        counts = counts_of(tokens).plus(-prefix)
        logp = self.selectors[selector](scored(tokens.x), counts)
        before = state.decision if self.inherit else None
        if not self.training:
            candidates = None if before is None else scored(before.keep)
            keep = with_prefix(self._choose(logp, counts, selector, candidates, block), True)
            score = with_prefix(logp[:, KEEP], torch.inf)
            if before is not None:
                return Decision(keep & before.keep, score=score)
            known = self._target_counts(counts, selector).plus(prefix) if self.mode == "ratio" else None
            return Decision(keep, counts=known, score=score)
        gate = with_prefix(self._gumbel_gate(logp, counts), 1.0)
        keep = gate > 0.5
        if before is not None and before.gate is not None:
            keep, gate = keep & before.keep, gate * before.gate.squeeze(1)
        state.kept.append((block, selector, counts.by_image(scored(gate))))
        return Decision(keep, gate[:, None], packed=self.training_mode == "packed")

    def _gumbel_gate(self, logp: Tensor, counts: Counts) -> Tensor:
        """Sample a 0/1 mask (S,) that has the gradient of its softmax (straight-through)."""
        return gumbel_gate(logp, self.noise(counts, logp.device, None), self.tau)[:, KEEP]

    def noise(self, counts: Counts, device: torch.device, seed: int | None) -> Tensor:
        """Draw the Gumbel samples (S, 2) of one decision."""
        return gumbel_noise(counts, 2, device, seed)

    def _choose(self, logp: Tensor, counts: Counts, selector: int, candidates: Tensor | None, block: int) -> Tensor:
        """Return the keep mask (S,) of evaluation, by ``mode``.

        ``candidates`` (S,) bool: the tokens that can be kept at all, None for all.
        """
        score = logp[:, KEEP] if candidates is None else logp[:, KEEP].masked_fill(~candidates, -torch.inf)
        if self.mode == "ratio":
            return keep_top(score, counts, self._target_counts(counts, selector))
        p = (score.exp() * self.ratio_scale).clamp(max=1)
        if self.mode == "target":
            return keep_top(score, counts, sum_per_image(p, counts).round().long())
        if self.mode == "threshold":
            return p > 0.5 if self.ratio_scale != 1 else logp[:, KEEP] > logp[:, 1 - KEEP]
        noise = self.noise(counts, logp.device, None if self.seed is None else self.seed + block)
        scaled = logp if self.ratio_scale == 1 else torch.stack([p, 1 - p], dim=1).log()
        return (scaled + noise).argmax(dim=1) == KEEP

    def _target_counts(self, counts: Counts, selector: int) -> Counts:
        """Return how many scored tokens mode "ratio" keeps in each image."""
        return counts.share(min(1.0, self.keep_ratio[selector] * self.ratio_scale))

    def capacity(self, block: int) -> float:
        return min(1.0, self.keep_ratio[self.selector_of[block]] * self.ratio_scale * self.capacity_scale)

    def after_block(self, block: int, tokens: TokenSet, state: State) -> TokenSet:
        if self.preserve or state.in_force is None or block not in self.selector_of:
            return tokens
        gate = state.in_force.gate
        return tokens.with_x(tokens.x * (state.in_force.keep[:, None] if gate is None else gate))

    def losses(self, state: State) -> dict[str, Tensor]:
        """Return the weighted mean ratio loss of all decisions and the keep ratio of each decision."""
        terms = [
            ratio_loss(gate, self.keep_ratio[selector], self.per_image, self.all_processes)
            for _, selector, gate in state.kept
        ]
        if not terms:
            return {}
        logs = {f"keep_ratio.{block}": gate.detach().mean() for block, _, gate in state.kept}
        return {"loss_ratio": self.ratio_loss_weight * torch.stack(terms).mean(), **logs}


def _check_selectors(depth: int, blocks: list[int], selectors: list[int], ratios: list[float]) -> None:
    check_blocks(blocks, depth)
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


def _check_choice(name: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise SettingError(f"{name} is {value!r}; choose one of {', '.join(choices)}")


def _check_numbers(tau: float, ratio_loss_weight: float, ratio_scale: float, capacity_scale: float) -> None:
    if not tau > 0 or ratio_loss_weight < 0:
        raise SettingError(f"tau {tau} must be greater than 0 and ratio_loss_weight {ratio_loss_weight} not negative")
    if not ratio_scale > 0:
        raise SettingError(f"ratio_scale is {ratio_scale}; it must be greater than 0 (1 is as trained)")
    if not capacity_scale > 0:
        raise SettingError(
            f"capacity_scale is {capacity_scale}; it must be greater than 0 (at 1, the capacity is the keep ratio)"
        )
