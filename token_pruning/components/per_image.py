"""Run the hooks of a method image by image, where images have different numbers of tokens and it needs equal ones.

Shapes: B images, N positions, T packed tokens, n tokens of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from operator import is_

import torch
from torch import Tensor

from ..attention import QKV
from ..counts import Counts
from ..reducer import Decision
from ..tokens import TokenSet
from .ranking import counts_of


def change(hook: Callable[..., TokenSet], tokens: TokenSet, *qkv: QKV) -> TokenSet:
    """Return what ``hook`` makes of the set; of each image alone, where their numbers of tokens differ.

    Args:
        qkv: queries, keys and values of the tokens, passed to ``hook`` as well if they are given.
    """
    if counts_of(tokens).each is not None:
        return hook(tokens, *qkv)
    parts, rows = split(tokens), list(_rows(tokens))
    own = [[part._replace(q=part.q[here], k=part.k[here], v=part.v[here]) for part in qkv] for here in rows]
    changed = [hook(part, *given) for part, given in zip(parts, own, strict=True)]
    return tokens if all(map(is_, changed, parts)) else join(changed)


def decide(hook: Callable[[TokenSet], Decision | None], tokens: TokenSet) -> Decision | None:
    """Return the decision of ``hook`` on the set; of each image alone, where their numbers of tokens differ."""
    if counts_of(tokens).each is not None:
        return hook(tokens)
    found = [decision for decision in map(hook, split(tokens)) if decision is not None]
    if not found:
        return None
    counts = [n for one in found for n in (one.counts or (int(one.keep.sum()),))]
    return Decision(torch.cat([one.keep for one in found]), counts=Counts.of(counts))


def split(tokens: TokenSet) -> list[TokenSet]:
    """Return the set of each image."""
    whole = tokens.positions
    base = replace(tokens, dense=tokens.restore(), pending=())
    sets = []
    for b, rows in enumerate(_rows(tokens)):
        own = slice(b * whole, (b + 1) * whole)
        sets.append(
            replace(
                base,
                x=base.x[rows],
                dense=base.dense[b : b + 1],
                index=None if base.index is None else base.index[rows] - own.start,
                counts=Counts.equal(rows.stop - rows.start, 1),
                size=None if base.size is None else base.size[rows],
                assignment=None if base.assignment is None else base.assignment[own] - own.start,
            )
        )
    return sets


def join(sets: Sequence[TokenSet]) -> TokenSet:
    """Return the sets of single images as one set of all of them: the inverse of ``split``."""
    whole, device = sets[0].positions, sets[0].x.device
    starts = range(0, whole * len(sets), whole)

    def shifted(parts: Sequence[Tensor | None], tokens: Sequence[int]) -> Tensor:
        filled = [
            torch.arange(n, device=device) if part is None else part for part, n in zip(parts, tokens, strict=True)
        ]
        return torch.cat([part + start for part, start in zip(filled, starts, strict=True)])

    merged = any(one.assignment is not None for one in sets)
    return replace(
        sets[0],
        x=torch.cat([one.x for one in sets]),
        dense=torch.cat([one.dense for one in sets]),
        index=shifted([one.index for one in sets], [len(one.x) for one in sets]),
        counts=Counts.of([n for one in sets for n in counts_of(one)]),
        size=torch.cat([one.sizes() for one in sets]) if any(one.size is not None for one in sets) else None,
        assignment=shifted([one.assignment for one in sets], [whole] * len(sets)) if merged else None,
        pending=tuple((index + start, x) for one, start in zip(sets, starts, strict=True) for index, x in one.pending),
    )


def _rows(tokens: TokenSet) -> Iterator[slice]:
    return (slice(*ends) for ends in pairwise(accumulate(counts_of(tokens), initial=0)))
