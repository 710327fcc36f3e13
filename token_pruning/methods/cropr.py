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

from ..auxiliary import Answer, Criterion
from ..cache import WeightCache
from ..losses import active_criterion
from ..reducer import Reducer, register
from ..router import FoldedRouter, Router, scores
from ..selection import rows_of
from ..tokens import TokenSet


@dataclass
class Memory:
    """Of one forward: how many grid tokens each site leaves, by what vectors (S, C) it ranks them, and in training what
    the auxiliary heads said, by block."""

    keep: list[int]
    vectors: Tensor
    answers: dict[int, Answer] = field(default_factory=dict)


@register
class Cropr(Reducer):
    """After each block of ``sites`` the grid tokens with the highest scores go on. With ``fusion`` the others come back
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
        num_classes: K of the auxiliary heads.
        num_queries: 1 where labels are of images; H * W of the training pictures where they are of tokens.
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

    def __init__(self, embed_dim: int, depth: int, sites: Sequence[int] | None = None,
                 r: Sequence[int] | int | None = None, keep_ratio: Sequence[float] | float | None = None,
                 fusion: bool = True, num_classes: int = 1000, num_queries: int = 1, asked_queries: int | None = None,
                 num_heads: int = 1, pre_norm: bool = False, q_proj: bool = False, k_proj: bool = False,
                 v_proj: bool = False, mlp_ratio: float | None = 4.0, loss_weight: float = 1.0, folded: bool = False,
                 criterion: Criterion | None = None) -> None:
        super().__init__(embed_dim, depth)
        last = depth - 2 - fusion
        sites = list(range(last + 1)) if sites is None else list(sites)
        if not sites or sorted({*sites} & {*range(last + 1)}) != sites:
            raise ValueError(f"sites = {sites}: list block numbers from 0 to {last}, ascending, each once (later ones "
                             "would save nothing)")
        if num_queries < 1 or (asked_queries is not None and not 0 < asked_queries <= num_queries):
            raise ValueError(f"num_queries is {num_queries} and asked_queries {asked_queries}; give at least one "
                             "query, and ask at most as many as there are")
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"num_heads is {num_heads}, which must divide the {embed_dim} channels")
        self.site_of = {block: i for i, block in enumerate(sites)}
        self.r, self.shares = _schedule(r, keep_ratio, len(sites))
        self.ease(1)
        self.fusion, self.pre_norm, self.loss_weight, self.criterion = fusion, pre_norm, loss_weight, criterion
        self.num_queries, self.asked_queries = num_queries, asked_queries
        self.routers = nn.ModuleList(
            FoldedRouter(embed_dim) if folded else
            Router(embed_dim, num_classes, num_queries=num_queries, num_heads=num_heads, pre_norm=pre_norm,
                   q_proj=q_proj, k_proj=k_proj, v_proj=v_proj, mlp_ratio=mlp_ratio)
            for _ in sites)
        self._vectors = WeightCache()

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(min(self.site_of) + 1, self.depth - self.fusion))

    @property
    def steady_blocks(self) -> frozenset[int]:
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
    def supervised(self) -> bool:
        """Whether there are auxiliary heads."""
        return isinstance(self.routers[0], Router)

    def ease(self, strength: Fraction | float) -> None:
        """Take fewer tokens from now on, for a curriculum: 0 none, 1 as many as configured."""
        self._taken = None if self.r is None else [int(r * strength) for r in self.r]
        self._shares = None if self.shares is None else [float(1 - strength * (1 - share)) for share in self.shares]

    def kept(self, grid: tuple[int, int], prefix: int) -> list[int]:
        """How many tokens of a ``grid`` (H, W) are left after each site.

        Raises:
            ValueError: the sites take all that there are, or more.
        """
        there = grid[0] * grid[1]
        if self._taken is None:
            return [min(max(round(share * there), 1), there) for share in self._shares]
        first = prefix if self._taken[0] else 0
        left = [there - first - sum(self._taken[:i + 1]) for i in range(len(self._taken))]
        if left[-1] < 1:
            raise ValueError(f"r = {self.r} takes {there - left[-1]} tokens in {len(left)} sites, and a grid of "
                             f"{grid[0]} x {grid[1]} has {there}: choose a smaller r, fewer sites, or a keep_ratio")
        return left

    def start(self, tokens: TokenSet, judge: None = None) -> Memory:
        weights = [*self.routers.parameters(), *self.routers.buffers()]
        return Memory(self.kept(tokens.grid, tokens.prefix), self._vectors.get("vectors", weights, self._fold))

    @torch.no_grad()
    def _fold(self) -> Tensor:
        return torch.stack([router.vector() for router in self.routers])

    def after_block(self, block: int, tokens: TokenSet, memory: Memory) -> TokenSet:
        site = self.site_of.get(block)
        if site is not None:
            if self.training and self.supervised:
                memory.answers[block] = self._ask(site, tokens)
            tokens = self._leave(tokens, memory.keep[site], memory.vectors[site])
        if self.fusion and block == self.depth - 2:
            tokens = TokenSet.full(tokens.restore(), tokens.grid, tokens.prefix)
        return tokens

    def _leave(self, tokens: TokenSet, keep: int, vector: Tensor) -> TokenSet:
        leaving = tokens.counts[0] - tokens.prefix - keep
        if leaving <= 0:
            return tokens
        with torch.no_grad():
            score = tokens.by_image(scores(tokens.x, vector, self.pre_norm))[:, tokens.prefix:]
            order = score.argsort(dim=1, stable=True) + tokens.prefix
            prefix = torch.arange(tokens.prefix, device=order.device).expand(tokens.batch, -1)
            # The kept ones stay in the order of the map.
            rows = torch.cat([prefix, order[:, leaving:].sort(dim=1).values], dim=1)
        counts = (tokens.prefix + keep,) * tokens.batch
        return tokens.take(rows_of(rows, tokens), counts, rows_of(order[:, :leaving], tokens))

    def _ask(self, site: int, tokens: TokenSet) -> Answer:
        asked = None
        if self.asked_queries is not None:
            asked = torch.randperm(self.num_queries, device=tokens.x.device)[:self.asked_queries]
        logits = self.routers[site](tokens.by_image(tokens.x.detach()), asked)
        return Answer(logits, tokens.grid, self.num_queries, asked)

    def losses(self, memory: Memory) -> dict[str, Tensor]:
        """An auxiliary loss of each site, and the fraction of the grid that is left after the last one."""
        criterion = active_criterion() or self.criterion
        if memory.answers and criterion is None:
            raise ValueError("Cropr's routers learn by auxiliary heads and nobody gives them labels: train it in a "
                             "model that does (PrunedClassifier, PrunedEncoderDecoder, ...), or hand a criterion to "
                             "collect_losses")
        losses = {f"loss_aux.{block}": self.loss_weight * criterion(answer)
                  for block, answer in memory.answers.items()}
        for answer in memory.answers.values():  # any: on the tokens' device
            share = memory.keep[-1] / (answer.grid[0] * answer.grid[1])
            return {**losses, f"keep_ratio.{max(self.site_of)}": torch.full((), share, device=answer.logits.device)}
        return losses


def _schedule(r: Sequence[int] | int | None, keep_ratio: Sequence[float] | float | None,
              sites: int) -> tuple[list[int] | None, list[float] | None]:
    """Tokens that each site takes, or shares of the grid that each leaves; the other is None."""
    if r is not None and keep_ratio is not None:
        raise ValueError("give r or keep_ratio, not both")
    if r is not None:
        taken = [r] * sites if isinstance(r, (int, float)) else list(r)
        if len(taken) != sites or any(not isinstance(n, int) or n < 0 for n in taken):
            raise ValueError(f"r = {r}: give a whole number of tokens, 0 or more, or one for each of the {sites} sites")
        return taken, None
    keep_ratio = 0.1 if keep_ratio is None else keep_ratio
    if isinstance(keep_ratio, (int, float)):
        shares = [1 - (1 - keep_ratio) * (i + 1) / sites for i in range(sites)]
    else:
        shares = list(keep_ratio)
    if len(shares) != sites or any(not 0 < share <= 1 for share in shares) or shares != sorted(shares, reverse=True):
        raise ValueError(f"keep_ratio = {keep_ratio}: give the fraction of the grid in (0, 1] that is left after the "
                         f"last site, or a falling one for each of the {sites} sites")
    return None, shares
