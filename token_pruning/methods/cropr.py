"""Cropr: at each site learned queries rank the tokens, the lowest leave, and all come back before the last block
("Token Cropr: Faster ViTs for Quite a Few Tasks", Bergner et al., CVPR 2025).

Shapes: T packed tokens, B images, M tokens of each (P prefix tokens first), N = H * W grid tokens, S sites, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor, nn

from ..auxiliary import AuxOutput, Criterion
from ..cache import WeightCache
from ..components.cropr_router import FoldedRouter, Router, scores
from ..components.ranking import gumbel_noise, rows_of
from ..components.schedules import TokenSchedule
from ..errors import SettingError
from ..losses import active_criterion
from ..reducer import Reducer, register
from ..tokens import TokenSet

RANKINGS = ("queries", "inverted", "random")


@dataclass
class State:
    """Of one forward: how many grid tokens are left after each site, by what vectors (S, C) they are ranked (None: by
    chance), and in training what the auxiliary heads said, by block."""

    left: list[int]
    vectors: Tensor | None
    outputs: dict[int, AuxOutput] = field(default_factory=dict)


@register
class Cropr(Reducer):
    """After each block of ``prune_after`` the grid tokens with the highest scores go on. With ``fusion`` the others come back
    before the last block, as they were when they left; else they have left for good.

    A token's score is the sum of what the site's queries make of it. In training the same queries gather the tokens for
    an auxiliary head (``router.Router``), whose loss trains them; no gradient of it reaches the backbone, and none of
    the backbone's losses the routers. The loss is made by the criterion that the host hands to ``collect_losses``.
    Prefix tokens are never ranked. All images of a batch keep equally many tokens.

    Args:
        embed_dim, depth: of the host.
        sites: blocks after which tokens leave, ascending; default all but the last (with fusion: the last two).
        r: how many tokens each site takes, or one number for each. The first takes as many more as there are prefix
            tokens, so that sequences stay multiples of 8 where the grid and ``r`` are (published: one more).
        keep_ratio: instead of ``r``: fraction in (0, 1] of the grid that is left after the last site, every site taking
            equally many; or what is left after each. Default 0.1.
        fusion: last layer fusion.
        ranking: who stays: "queries", the tokens with the highest scores; for comparison "inverted", those with the
            lowest, or "random", without routers.
        num_classes: K of the auxiliary heads.
        num_queries: 1 where labels are of images; H * W of the training images where they are of tokens.
        asked_queries: so many of them, drawn anew in each step, train the auxiliary heads; None for all, as published.
            A segmentor's 1024 cost more than pruning saves.
        num_heads, pre_norm, q_proj, k_proj, v_proj: of the queries' attention.
        mlp_ratio: of the aggregator's MLP; None for none.
        loss_weight: of every auxiliary loss.
        folded: routers are single vectors, without what trains them; see ``fold``.
        criterion: asked where the host hands none over.

    Raises:
        ValueError: an argument is out of its range; at the first tokens, the sites take more than there are; in
            training, nobody has labels.
    """

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
        prune_after = list(range(last + 1)) if prune_after is None else list(prune_after)
        if not prune_after or sorted({*prune_after} & {*range(last + 1)}) != prune_after:
            raise SettingError(
                f"sites = {prune_after}: list block numbers from 0 to {last}, ascending, each once (later ones "
                "would save nothing)"
            )
        if ranking not in RANKINGS:
            raise SettingError(f"ranking is {ranking!r}; choose one of {', '.join(RANKINGS)}")
        if num_queries < 1 or (num_sampled_queries is not None and not 0 < num_sampled_queries <= num_queries):
            raise SettingError(
                f"num_queries is {num_queries} and asked_queries {num_sampled_queries}; give at least one "
                "query, and ask at most as many as there are"
            )
        if num_heads < 1 or embed_dim % num_heads:
            raise SettingError(f"num_heads is {num_heads}, which must divide the {embed_dim} channels")
        self.site_of = {block: i for i, block in enumerate(prune_after)}
        self.schedule = TokenSchedule(len(prune_after), r, keep_ratio)
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
            for _ in (() if ranking == "random" else prune_after)
        )
        self._vectors = WeightCache()

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(min(self.site_of) + 1, self.depth - self.fusion))

    @property
    def no_drop_path_blocks(self) -> frozenset[int]:
        """The last block's paths are never dropped, as published."""
        return frozenset([self.depth - 1])

    def train(self, mode: bool = True) -> Cropr:
        self._vectors.clear()
        return super().train(mode)

    @torch.no_grad()
    def fold(self) -> Cropr:
        """Drop everything that only trains: each router becomes one vector. What is computed stays the same."""
        for i, router in enumerate(self.routers):
            vector = router.vector()
            self.routers[i] = FoldedRouter(self.embed_dim).to(vector)
            self.routers[i].folded.copy_(vector)
        return self

    @property
    def has_aux_heads(self) -> bool:
        """Whether there are auxiliary heads."""
        return any(isinstance(router, Router) for router in self.routers)

    def anneal(self, pruning_strength: Fraction | float) -> None:
        """Take fewer tokens from now on, for a curriculum: 0 none, 1 as many as configured."""
        self.schedule.anneal(pruning_strength)
        self.pruning_strength = float(pruning_strength)  # by which those who keep compiled forwards tell settings apart

    def start(self, tokens: TokenSet, score_fn: None = None) -> State:
        weights = [*self.routers.parameters(), *self.routers.buffers()]
        vectors = None
        if weights:
            vectors = self._vectors.get("vectors", weights, lambda: self._fold(tokens.x.device))
        return State(self.schedule.left(tokens.grid, tokens.prefix), vectors)

    @torch.no_grad()
    def _fold(self, device: torch.device) -> Tensor:
        with torch.autocast(device.type, enabled=False):
            return torch.stack([router.vector() for router in self.routers])

    def after_block(self, block: int, tokens: TokenSet, state: State) -> TokenSet:
        site = self.site_of.get(block)
        if site is not None:
            if self.training and self.has_aux_heads:
                state.outputs[block] = self._ask(site, tokens)
            tokens = self._leave(site, tokens, state)
        if self.fusion and block == self.depth - 2:
            tokens = TokenSet.full(tokens.restore(), tokens.grid, tokens.prefix)
        return tokens

    def _leave(self, site: int, tokens: TokenSet, state: State) -> TokenSet:
        if not tokens.batch:
            return tokens
        leaving = tokens.counts[0] - tokens.prefix - state.left[site]
        if leaving <= 0:
            return tokens
        with torch.no_grad():
            score = tokens.by_image(self._scores(site, tokens, state))[:, tokens.prefix :]
            order = score.argsort(dim=1, descending=self.ranking == "inverted", stable=True) + tokens.prefix
            prefix = torch.arange(tokens.prefix, device=order.device).expand(tokens.batch, -1)
            # The kept ones stay in the order of the map.
            rows = torch.cat([prefix, order[:, leaving:].sort(dim=1).values], dim=1)
        counts = (tokens.prefix + state.left[site],) * tokens.batch
        return tokens.take(rows_of(rows, tokens), counts, rows_of(order[:, :leaving], tokens))

    def _scores(self, site: int, tokens: TokenSet, state: State) -> Tensor:
        """(T,)"""
        if state.vectors is not None:
            return scores(tokens.x, state.vectors[site], self.pre_norm)
        # In evaluation every image gets the same random order in whatever batch it stands, another one at each site.
        return gumbel_noise(tokens.counts, 1, tokens.x.device, None if self.training else site)[:, 0]

    def _ask(self, site: int, tokens: TokenSet) -> AuxOutput:
        query_indices = None
        if self.num_sampled_queries is not None:
            query_indices = torch.randperm(self.num_queries, device=tokens.x.device)[: self.num_sampled_queries]
        logits = self.routers[site](tokens.by_image(tokens.x.detach()), query_indices)
        return AuxOutput(logits, tokens.grid, self.num_queries, query_indices)

    def losses(self, state: State) -> dict[str, Tensor]:
        """An auxiliary loss of each site, and the fraction of the grid that is left after the last one."""
        if not state.outputs:
            return {}
        criterion = active_criterion() or self.criterion
        if criterion is None:
            raise SettingError(
                "Cropr's routers learn by auxiliary heads and nobody gives them labels: train it in a "
                "model that does (PrunedClassifier, PrunedEncoderDecoder, ...), or hand a criterion to "
                "collect_losses"
            )
        losses = {f"loss_aux.{block}": self.loss_weight * criterion(output) for block, output in state.outputs.items()}
        output = state.outputs[max(self.site_of)]
        share = state.left[-1] / (output.grid[0] * output.grid[1])
        return {**losses, f"keep_ratio.{max(self.site_of)}": torch.full((), share, device=output.logits.device)}
