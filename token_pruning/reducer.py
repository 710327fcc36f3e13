"""The interface that every token-reduction method implements, and the index of the methods.

A reducer decides; a token set carries; a block computes. A stack of blocks asks its reducer at four moments and is
otherwise ignorant of pruning. Shapes: T packed tokens of the set, B images, N positions, C channels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .attention import QKV
from .errors import SettingError
from .tokens import TokenSet

METHODS: dict[str, type[Reducer]] = {}


@dataclass(frozen=True)
class Decision:
    """Which tokens a block runs on.

    Attributes:
        keep: (T,) bool.
        gate: (T, 1) float whose value is ``keep`` and through which gradients reach the method, or None. With a gate
            the block is computed for all tokens, the dropped ones masked as keys, and blended in by the gate; without,
            only the kept tokens are computed. Both give the same values.
        packed: with a gate, compute only the kept tokens all the same. Cheaper than the dense step; the gate then hears
            from kept tokens alone what the block is worth to them.
        counts: how many tokens are kept of each image, if the method knows without asking the device.
        soft_keys: with a gate, let it also be the soft mask of the keys (``soft_attention``): gradients then tell what
            a dropped token would have been worth to the others.
        score: (T,) which tokens matter most, for executions of fixed capacity: where it does not suffice, the lowest
            are dropped.
    """

    keep: Tensor
    gate: Tensor | None = None
    packed: bool = False
    soft_keys: bool = False
    counts: tuple[int, ...] | None = None
    score: Tensor | None = None


class Reducer(nn.Module):
    """Base class: keeps every token. A method overrides the moments that it needs.

    A reducer leaves nothing on itself during a forward: what it must remember from block to block lives in the
    ``state`` that ``start`` returns and every moment is given. Nothing may depend on what else is in the batch in
    evaluation: a batch of n equals n batches of one (until a fixed capacity, which the batch shares, overflows).

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.

    Attributes:
        proportional: merged tokens draw attention in proportion to their size.
        needs_class_token: tokens are ranked by the class token's attention.
        fixed_shapes: no tensor's shape depends on what is in the images, given an execution of fixed capacity: what
            compilation and CUDA graphs need.
        judged: tokens leave with a final verdict of the host's judge; its heads look at the others only.
        supervised: auxiliary heads of its own learn from labels, by a criterion that the host hands to
            ``collect_losses``.
        steady_blocks: numbers of the blocks whose branches stochastic depth never drops.
        cost parameter: (argument, lowest, highest value) that sets how much is computed; what calibration turns. Integers where
            the method wants them.
    """

    prop_attn: bool = False
    needs_class_token: bool = False
    fixed_shapes: bool = True
    needs_class_scores: bool = False
    has_aux_heads: bool = False
    no_drop_path_blocks: frozenset[int] = frozenset()
    cost_param: tuple[str, float, float] = ("keep_ratio", 0.0, 1.0)

    def __init__(self, embed_dim: int, depth: int) -> None:
        super().__init__()
        self.embed_dim, self.depth = embed_dim, depth

    @property
    def pruned_blocks(self) -> list[int]:
        """Blocks that may run on a subset, or whose successors may: they must be able to, so not windowed."""
        return []

    def capacity(self, block: int) -> float:
        """Fraction of a batch's tokens that an execution of fixed capacity computes in a pruned ``block``."""
        return 1.0

    def check_host(self, class_token: bool) -> None:
        """A host calls this with whether a class token is the first of its tokens; raises ValueError if the method
        needs one that is not there."""
        if self.needs_class_token and not class_token:
            raise SettingError(
                f"{type(self).__name__} ranks tokens by the class token's attention and this model has none; give the "
                "backbone class_token=True, or use a method that needs none (ToMe, SViT, DynamicViT, Random)"
            )

    def start(self, tokens: TokenSet, score_fn: Callable | None = None) -> Any:
        """Fresh memory for one forward that begins with ``tokens``. ``score_fn``: a function that the host hands over for
        methods that ask one (DToP); others pay no attention to it."""
        return None

    def before_block(self, block: int, tokens: TokenSet, state: Any) -> Decision | None:
        """Moment 1: which tokens run through ``block``; the others pass by unchanged. None for all."""
        return None

    def after_attention(self, block: int, tokens: TokenSet, qkv: QKV, state: Any) -> TokenSet:
        """Moment 2, between attention and MLP: the set that enters the MLP (drop or merge by what attention said)."""
        return tokens

    def after_block(self, block: int, tokens: TokenSet, state: Any) -> TokenSet:
        """Moment 3: the set that goes on; tokens that are not in it rest in the map."""
        return tokens

    def restore(self, tokens: TokenSet, state: Any) -> Tensor:
        """Moment 4, at the end and wherever a map is needed: (B, N, C) with a value at every position."""
        return tokens.restore()

    def losses(self, state: Any) -> dict[str, Tensor]:
        """Scalars of one forward in training: keys with "loss" are summed by the host, others only logged."""
        return {}


def register(cls: type[Reducer]) -> type[Reducer]:
    """Class decorator: make a method known by its class name."""
    if cls.__name__ in METHODS:
        raise ValueError(f"a reducer named {cls.__name__} is registered already; choose another class name")
    METHODS[cls.__name__] = cls
    return cls


def build_reducer(cfg: dict | Reducer | None, embed_dim: int, depth: int) -> Reducer | None:
    """A reducer from ``dict(type=NAME, ...)`` for a host of ``depth`` blocks with ``embed_dim`` channels.

    Raises:
        ValueError: unknown method, an argument that the method does not have, or a Reducer made for another host.
    """
    if isinstance(cfg, Reducer) and (cfg.embed_dim, cfg.depth) != (embed_dim, depth):
        raise SettingError(
            f"this {type(cfg).__name__} is for {cfg.depth} blocks of {cfg.embed_dim} channels and the "
            f"model has {depth} of {embed_dim}"
        )
    if cfg is None or isinstance(cfg, Reducer):
        return cfg
    args = dict(cfg)
    name = args.pop("type", None)
    method = find_method(name)
    known = [p for p in inspect.signature(method).parameters if p not in ("embed_dim", "depth")]
    for key in args:
        if key not in known:
            raise SettingError(f"reducer {name} reads no key {key!r}; it has {', '.join(known)}")
    return method(embed_dim=embed_dim, depth=depth, **args)


def find_method(name: str | None) -> type[Reducer]:
    """The method of that name. Raises ValueError if there is none."""
    if name not in METHODS:
        raise SettingError(f"unknown reducer type {name!r}; known are {', '.join(sorted(METHODS))}")
    return METHODS[name]
