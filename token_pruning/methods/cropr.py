"""Cropr: learned queries rank the tokens, the lowest leave, and all tokens are restored before the last block.

"Token Cropr: Faster ViTs for Quite a Few Tasks", Bergner et al., CVPR 2025. A *pruning block* is a block after which
tokens leave.

Shapes: T packed tokens, B images, M tokens of each (P prefix tokens first), N = H * W grid tokens, S pruning blocks,
C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

import torch
from torch import Tensor, nn

from ..auxiliary import AuxOutput, Criterion
from ..cache import WeightCache
from ..components.cropr_router import FoldedRouter, Router, scores
from ..components.ranking import counts_of, equal_count, gumbel_noise, rows_of
from ..components.schedules import TokenSchedule
from ..counts import Counts
from ..errors import SettingError
from ..losses import active_criterion
from ..reducer import Reducer, register
from ..tokens import TokenSet

RANKINGS = ("queries", "inverted", "random")


@dataclass
class State:
    """State of one forward pass.

    Attributes:
        tokens_left: number of grid tokens of an image that remain after each pruning block.
        vectors: (S, C), the scoring vector of each pruning block, or None without routers.
        outputs: in training, pruning block -> output of its auxiliary head.
    """

    tokens_left: list[int]
    vectors: Tensor | None
    outputs: dict[int, AuxOutput] = field(default_factory=dict)


@register
class Cropr(Reducer):
    """Pruning by cross-attention scores after each block of ``prune_after``; the lowest-scored grid tokens leave.

    With ``fusion``, dropped tokens return before the last block with the values they left with; without, they never
    return.

    A token's score is the sum of its attention logits over the queries of the pruning block's router. In training the
    same queries gather the tokens for an auxiliary head (``cropr_router.Router``), whose loss trains them. No gradient
    of that loss reaches the backbone, and no gradient of the backbone's losses reaches the routers. The loss is
    computed by the criterion that the host passes to ``collect_losses``. Prefix tokens are never ranked. All images of
    a batch keep the same number of tokens.

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.
        prune_after: the pruning blocks, ascending; default all but the last block (with ``fusion``: the last two).
        r: tokens dropped at each pruning block, one number for all or one for each. The first one also drops as many as
            there are prefix tokens, so that sequence lengths stay multiples of 8 where the grid and ``r`` are
            (published: one more).
        keep_ratio: instead of ``r``: the fraction in (0, 1] of the grid that remains after the last pruning block, with
            equally many dropped at each; or the fraction that remains after each. Default 0.1.
        fusion: last layer fusion.
        ranking: which tokens stay: "queries", those with the highest scores; for comparison "inverted", those with the
            lowest, or "random", without routers.
        num_classes: K of the auxiliary heads.
        num_queries: 1 for labels per image; H * W of the training images for labels per token.
        num_sampled_queries: number of queries, sampled anew in each step, that train the auxiliary heads; None for
            all, as published. The 1024 of a segmentor cost more than pruning saves.
        num_heads: heads of the cross-attention.
        pre_norm: normalize tokens before the cross-attention.
        q_proj: project queries in the cross-attention.
        k_proj: project keys in the cross-attention.
        v_proj: project values in the cross-attention.
        mlp_ratio: of the aggregator's MLP; None for no MLP.
        loss_weight: weight of each auxiliary loss.
        folded: build routers that are single vectors, for inference only; see ``fold``.
        criterion: used where the host passes none.

    Raises:
        SettingError: an argument is out of range; at the first tokens, the schedule drops more than there are; in
            training, there is no criterion.
    """

    needs_training = True

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        prune_after: Sequence[int] | None = None,
        r: Sequence[int] | int | None = None,
        keep_ratio: Sequence[float] | float | None = None,
        fusion: bool = True,
        ranking: str = "queries",
        num_classes: int = 1000,
        num_queries: int = 1,
        num_sampled_queries: int | None = None,
        num_heads: int = 1,
        pre_norm: bool = False,
        q_proj: bool = False,
        k_proj: bool = False,
        v_proj: bool = False,
        mlp_ratio: float | None = 4.0,
        loss_weight: float = 1.0,
        folded: bool = False,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__(embed_dim, depth)
        last = depth - 2 - fusion
        self.prune_after = list(range(last + 1) if prune_after is None else prune_after)
        _check_arguments(self.prune_after, last, ranking, num_queries, num_sampled_queries, num_heads, embed_dim)
        self.schedule = TokenSchedule(len(self.prune_after), r, keep_ratio)
        self.fusion, self.ranking, self.pre_norm = fusion, ranking, pre_norm
        self.loss_weight, self.criterion = loss_weight, criterion
        self.num_queries, self.num_sampled_queries = num_queries, num_sampled_queries
        self.routers = nn.ModuleList(
            FoldedRouter(embed_dim)
            if folded
            else Router(
                embed_dim,
                num_classes,
                num_queries=num_queries,
                num_heads=num_heads,
                pre_norm=pre_norm,
                q_proj=q_proj,
                k_proj=k_proj,
                v_proj=v_proj,
                mlp_ratio=mlp_ratio,
            )
            for _ in (() if ranking == "random" else self.prune_after)
        )
        self.has_aux_heads = not folded and ranking != "random"
        self.no_drop_path_blocks = frozenset([depth - 1])  # as published
        self._cache = WeightCache()

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(self.prune_after[0] + 1, self.depth - self.fusion))

    def train(self, mode: bool = True) -> Cropr:
        self._cache.clear()
        return super().train(mode)

    @torch.no_grad()
    def fold(self) -> Cropr:
        """Replace each router by its scoring vector. The outputs stay the same; auxiliary heads are removed."""
        for i, vector in enumerate(self._vectors()):
            router = FoldedRouter(self.embed_dim).to(vector)
            router.folded.copy_(vector)
            self.routers[i] = router
        self.has_aux_heads = False
        return self

    def anneal(self, pruning_strength: Fraction | float) -> None:
        """Scale how many tokens are dropped from now on, for a curriculum: 0 drops none, 1 as many as configured."""
        self.schedule.anneal(pruning_strength)

    def start(self, tokens: TokenSet, score_fn: Callable | None = None) -> State:
        weights = [*self.routers.parameters(), *self.routers.buffers()]
        vectors = None
        if weights:
            vectors = self._cache.get("vectors", weights, lambda: self._stacked_vectors(tokens.x.device))
        return State(self.schedule.tokens_left(tokens.grid, tokens.prefix), vectors)

    @torch.no_grad()
    def _stacked_vectors(self, device: torch.device) -> Tensor:
        with torch.autocast(device.type, enabled=False):
            return torch.stack(self._vectors())

    def _vectors(self) -> list[Tensor]:
        return [cast("Router | FoldedRouter", router).vector() for router in self.routers]

    def after_block(self, block: int, tokens: TokenSet, state: State) -> TokenSet:
        if block in self.prune_after:
            number = self.prune_after.index(block)
            if self.training and self.has_aux_heads:
                state.outputs[block] = self._run_aux_head(number, tokens)
            tokens = self._prune(number, tokens, state)
        if self.fusion and block == self.depth - 2:
            tokens = tokens.filled()
        return tokens

    def _prune(self, number: int, tokens: TokenSet, state: State) -> TokenSet:
        """Drop the lowest-scored tokens at pruning block ``number`` (0 to S - 1)."""
        left = state.tokens_left[number]
        dropped = equal_count(tokens) - tokens.prefix - left
        if dropped <= 0:
            return tokens
        with torch.no_grad():
            score = tokens.by_image(self._scores(number, tokens, state))[:, tokens.prefix :]
            order = score.argsort(dim=1, descending=self.ranking == "inverted", stable=True) + tokens.prefix
            prefix = torch.arange(tokens.prefix, device=order.device).expand(tokens.batch, -1)
            # Kept tokens stay in the order of the dense map.
            rows = torch.cat([prefix, order[:, dropped:].sort(dim=1).values], dim=1)
        counts = Counts.equal(tokens.prefix + left, tokens.batch)
        return tokens.take(rows_of(rows, tokens), counts, rows_of(order[:, :dropped], tokens))

    def _scores(self, number: int, tokens: TokenSet, state: State) -> Tensor:
        """Return the score of each token, (T,)."""
        if state.vectors is not None:
            return scores(tokens.x, state.vectors[number], self.pre_norm)
        # In evaluation an image gets the same random order in any batch, and another one at each pruning block.
        return gumbel_noise(counts_of(tokens), 1, tokens.x.device, None if self.training else number)[:, 0]

    def _run_aux_head(self, number: int, tokens: TokenSet) -> AuxOutput:
        query_indices = None
        if self.num_sampled_queries is not None:
            query_indices = torch.randperm(self.num_queries, device=tokens.x.device)[: self.num_sampled_queries]
        logits = self.routers[number](tokens.by_image(tokens.x.detach()), query_indices)
        return AuxOutput(logits, tokens.grid, self.num_queries, query_indices)

    def losses(self, state: State) -> dict[str, Tensor]:
        """Return the auxiliary loss of each pruning block and the keep ratio after the last one."""
        if not state.outputs:
            return {}
        criterion = active_criterion() or self.criterion
        if criterion is None:
            raise SettingError(
                "the auxiliary heads of Cropr learn from labels, and there is no criterion: train it in a "
                "model that has one (PrunedClassifier, PrunedEncoderDecoder, ...), or pass a criterion to "
                "collect_losses"
            )
        losses = {f"loss_aux.{block}": self.loss_weight * criterion(output) for block, output in state.outputs.items()}
        last = self.prune_after[-1]
        output = state.outputs[last]
        ratio = state.tokens_left[-1] / (output.grid[0] * output.grid[1])
        return {**losses, f"keep_ratio.{last}": torch.full((), ratio, device=output.logits.device)}


def _check_arguments(
    prune_after: list[int],
    last: int,
    ranking: str,
    num_queries: int,
    num_sampled_queries: int | None,
    num_heads: int,
    embed_dim: int,
) -> None:
    if not prune_after or sorted({*prune_after} & {*range(last + 1)}) != prune_after:
        raise SettingError(
            f"prune_after = {prune_after}: list block numbers from 0 to {last}, ascending, each once (later ones "
            "would save nothing)"
        )
    if ranking not in RANKINGS:
        raise SettingError(f"ranking is {ranking!r}; choose one of {', '.join(RANKINGS)}")
    if num_queries < 1 or (num_sampled_queries is not None and not 0 < num_sampled_queries <= num_queries):
        raise SettingError(
            f"num_queries is {num_queries} and num_sampled_queries {num_sampled_queries}; give at least one "
            "query, and sample at most as many as there are"
        )
    if num_heads < 1 or embed_dim % num_heads:
        raise SettingError(f"num_heads is {num_heads}, which must divide the {embed_dim} channels")
