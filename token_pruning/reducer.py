"""The interface that every token-reduction method implements, and the registry of the methods.

A reducer decides; a token set stores; a block computes. ``StackForward`` calls the reducer's hooks and knows nothing
else of pruning. Shapes: T packed tokens of the set, B images, N positions, C channels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .attention import QKV
from .counts import Counts
from .embedding import PatchEmbedding
from .errors import SettingError
from .recording import NO_SCRIPT
from .tokens import TokenSet

METHODS: dict[str, type[Reducer]] = {}


@dataclass(frozen=True)
class Decision:
    """Which tokens a block runs on.

    Attributes:
        keep: (T,) bool.
        gate: (T, 1) float with the value of ``keep``, through which gradients reach the method, or None. With a gate
            the block is computed for all tokens, dropped tokens are masked as keys, and the gate blends input and
            output; without, only the kept tokens are computed. Both give the same values.
        packed: with a gate, compute only the kept tokens all the same. Cheaper than the dense step, but the gate then
            receives gradients through kept tokens only.
        counts: number of kept tokens of each image, if the method knows it without synchronizing with the device.
        soft_keys: with a gate, use it also as the soft mask of the keys (``soft_attention``), so that gradients show
            what a dropped token would have contributed to the others.
        score: (T,) importance of each token, for executions of fixed capacity: where the capacity does not suffice,
            the tokens with the lowest score are dropped.
    """

    keep: Tensor
    gate: Tensor | None = None
    packed: bool = False
    soft_keys: bool = False
    counts: Sequence[int] | None = None
    score: Tensor | None = None

    def prepended(self, tokens: TokenSet, number: int) -> Decision:
        """Return the same decision on ``tokens`` with ``number`` more prefix tokens, which are kept."""

        def longer(values: Tensor | None, fill: float) -> Tensor | None:
            if values is None:
                return None
            return tokens.prepend_to(values, values.new_full((tokens.batch, number, *values.shape[1:]), fill))

        counts = None if self.counts is None else Counts.of(self.counts).plus(number)
        keep = tokens.prepend_to(self.keep, self.keep.new_ones(tokens.batch, number))
        return replace(self, keep=keep, gate=longer(self.gate, 1), score=longer(self.score, torch.inf), counts=counts)


class Reducer(nn.Module):
    """Base class: keeps every token. A method overrides the hooks that it needs.

    A reducer stores nothing on itself during a forward: what it must remember from block to block lives in the
    ``state`` that ``start`` returns and every hook is passed. In evaluation, nothing may depend on the other images of
    the batch: a batch of n equals n batches of one (unless a fixed capacity, which the batch shares, overflows).

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.

    Attributes:
        prop_attn: proportional attention: merged tokens are weighted by their size as keys.
        needs_class_token: tokens are ranked by the class token's attention.
        needs_class_scores: tokens exit early on class scores supplied by the host; later heads see only the remaining
            tokens.
        needs_grid: all tokens of the grid must be there when the method acts.
        reads_image: the method makes tokens from the image, see ``embed``.
        needs_training: the selection is learned, so the method prunes well only after training.
        has_aux_heads: has auxiliary heads that learn from labels, by a criterion that the host passes to
            ``collect_losses``.
        fixed_shapes: no tensor's shape depends on the content of the images, given an execution of fixed capacity:
            what compilation and CUDA graphs need.
        no_drop_path_blocks: indices of the blocks whose branches stochastic depth never drops.
        cost_param: (name, min, max) of the argument that controls compute; ints for integer arguments.
        keep_all: arguments with which the method keeps every token, so that it equals the dense model.
    """

    prop_attn: bool = False
    needs_class_token: bool = False
    needs_class_scores: bool = False
    needs_grid: bool = False
    reads_image: bool = False
    needs_training: bool = False
    has_aux_heads: bool = False
    fixed_shapes: bool = True
    no_drop_path_blocks: frozenset[int] = frozenset()
    cost_param: ClassVar[tuple[str, float, float]] = ("keep_ratio", 0.0, 1.0)
    keep_all: ClassVar[dict[str, Any]] = {"keep_ratio": 1.0}

    def __init__(self, embed_dim: int, depth: int) -> None:
        super().__init__()
        self.embed_dim, self.depth = embed_dim, depth

    @property
    def pruned_blocks(self) -> list[int]:
        """Blocks that may run on a subset of the tokens."""
        return []

    def capacity(self, block: int) -> float:
        """Return the fraction of a batch's tokens that a fixed-capacity execution computes in a pruned ``block``."""
        return 1.0

    def check_host(self, class_token: bool, windows: Sequence[int | None] = ()) -> None:
        """Check that the host has what the method needs.

        Args:
            class_token: whether the host's first token is a class token.
            windows: of each block, the side of the windows that it attends in, None for global attention; empty if all
                blocks are global.

        Raises:
            SettingError: the method needs a class token and there is none, or it prunes a windowed block.
        """
        self.check_windows(windows)
        if self.needs_class_token and not class_token:
            other_score = "rank by score='representation_shift', " if hasattr(self, "score") else ""
            others = ", ".join(sorted(name for name, method in METHODS.items() if not method.needs_class_token))
            raise SettingError(
                f"{type(self).__name__} ranks tokens by the class token's attention and this model has none; give a "
                "backbone of a config class_token=True, choose a timm model whose weights have one (those with gap or "
                f"siglip in their name have none), {other_score}or use a method that needs none ({others})"
            )

    def check_windows(self, windows: Sequence[int | None]) -> None:
        """Raise SettingError if a pruned block is windowed, see ``check_host``: windows need every token."""
        clash = [block for block in self.pruned_blocks if windows and windows[block]]
        if clash:
            raise SettingError(
                f"block {clash[0]} attends in windows, which need every token, and the reducer prunes it; "
                "list only global-attention blocks in the reducer's `blocks`, or use CubistMerge, which reduces windows"
            )

    def __prepare_scriptable__(self) -> None:  # noqa: PLW3201 (torch.jit.script calls it before it compiles)
        raise SettingError(NO_SCRIPT)

    def signature(self) -> tuple[Hashable, ...]:
        """Return a hashable value of all settings; it changes whenever one of them does, and not with the weights.

        A captured or compiled backbone is valid for one signature. The value is built from the public attributes;
        a method that keeps settings elsewhere adds them.
        """
        settings = {name: v for name, v in vars(self).items() if not name.startswith("_") and name != "training"}
        return (type(self).__qualname__, _hashable(settings))

    def start(self, tokens: TokenSet, score_fn: Callable | None = None) -> Any:
        """Return the state of a new forward that begins with ``tokens``.

        Args:
            score_fn: class scores supplied by the host, for methods with ``needs_class_scores``; others ignore it.
        """
        return None

    def embed(self, tokens: TokenSet, embedding: PatchEmbedding, state: Any) -> TokenSet:
        """Return the set that begins instead of ``tokens``; called after ``start`` for methods with ``reads_image``."""
        return tokens

    def enter_block(self, block: int, tokens: TokenSet, state: Any) -> TokenSet:
        """Return the set that enters ``block`` for good, after dropping or merging tokens by their values."""
        return tokens

    def after_prepend(self, tokens: TokenSet, number: int, state: Any) -> None:
        """Adapt the state when ``number`` more prefix tokens enter in front of those of the set ``tokens``.

        For methods that remember a value per token or position; the new tokens are never scored, dropped or merged.
        """

    def before_block(self, block: int, tokens: TokenSet, state: Any) -> Decision | None:
        """Decide which tokens run through ``block``; the others skip it unchanged. None for all tokens."""
        return None

    def after_attention(self, block: int, tokens: TokenSet, qkv: QKV, state: Any) -> TokenSet:
        """Return the set that enters the MLP of ``block``, after dropping or merging tokens by their attention."""
        return tokens

    def after_mlp(self, block: int, tokens: TokenSet, branch: Tensor, state: Any) -> None:
        """Read the output ``branch`` (T, C) of the MLP of ``block`` for the set that entered it, before layer scale."""

    def after_block(self, block: int, tokens: TokenSet, state: Any) -> TokenSet:
        """Return the set that enters the next block; tokens outside it keep their value in the dense map."""
        return tokens

    def restore(self, tokens: TokenSet, state: Any) -> Tensor:
        """Return the map (B, N, C) with a value at every position; called at the end and wherever a map is needed."""
        return tokens.restore()

    def losses(self, state: Any) -> dict[str, Tensor]:
        """Return scalars of one training forward: the host sums keys with "loss" in them and only logs the others."""
        return {}


def _hashable(value: Any) -> Hashable:
    if isinstance(value, Tensor):  # weights and buffers are read in place
        return (tuple(value.shape), value.dtype)
    if isinstance(value, dict):
        return tuple((key, _hashable(v)) for key, v in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    if isinstance(value, set | frozenset):
        return frozenset(map(_hashable, value))
    if hasattr(value, "__dict__") and not callable(value):  # a plain object with settings of its own
        return (type(value).__qualname__, _hashable(vars(value)))
    return value


def register(cls: type[Reducer]) -> type[Reducer]:
    """Class decorator that registers a method under its class name."""
    if cls.__name__ in METHODS:
        raise ValueError(f"a reducer named {cls.__name__} is registered already; choose another class name")
    METHODS[cls.__name__] = cls
    return cls


def build_reducer(cfg: dict | Reducer | None, embed_dim: int, depth: int) -> Reducer | None:
    """Build a reducer from ``dict(type=NAME, ...)`` for a host of ``depth`` blocks with ``embed_dim`` channels.

    Raises:
        SettingError: unknown method, an argument that the method does not have, or a Reducer made for another host.
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
    """Return the method of that name.

    Raises:
        SettingError: there is none.
    """
    if name not in METHODS:
        raise SettingError(f"unknown reducer type {name!r}; known are {', '.join(sorted(METHODS))}")
    return METHODS[name]
