"""What ``run_block`` needs of a transformer block: the one interface between the core and other people's modules.

Every pre-norm block computes ``x + drop_path1(scale1(project(attention(qkv(norm1(x))))))`` and then
``x + drop_path2(scale2(mlp(norm2(x))))``. Libraries differ in where they keep the parts; an adapter says where. It
holds no weights and is made anew for every call, so it may hold what only this call knows (``bias``).

Shapes: T packed tokens, C channels, H heads, D channels of a head, N positions of the map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from ..attention import QKV, self_attention
from ..tokens import TokenSet

Branch = Callable[[Tensor], Tensor]


class BlockAdapter:
    """The parts of one transformer block. An adapter sets or overrides what its library keeps elsewhere.

    Args:
        block: the block.

    Attributes:
        block: the module whose parameters the block has.
        hooked: the module that is called where it has hooks or is a wrapper; None if its host calls the block itself.
        attn: the attention module, called where it has hooks.
        attn_returns_tuple: whether hooks on ``attn`` expect (output, None) instead of the output.
        norm1: (T, C) -> (T, C), before the attention.
        norm2: the same before the MLP.
        mlp: (T, C) -> (T, C).
        drop_path1: module whose ``drop_prob`` is the probability that an image skips the attention; any other module
            for none.
        drop_path2: the same for the MLP.
        rotate_half: with rotary positions, channels i and i + D/2 form a pair, instead of adjacent channels.
        bias: (H, N, N) added to the attention logits of two positions of the map, or None. Each token, wherever it is
            in the set, has the row and the column of its position.
    """

    hooked: nn.Module | None = None
    attn: Any
    attn_returns_tuple: bool = False
    norm1: Any
    norm2: Any
    mlp: Any
    drop_path1: Any = None
    drop_path2: Any = None
    rotate_half: bool = False
    bias: Tensor | None = None

    def __init__(self, block: nn.Module) -> None:
        self.block = block

    def qkv(self, x: Tensor) -> QKV:
        """Project normalized tokens ``x`` (T, C) to q, k, v, each (T, H, D); norms of q and k included."""
        raise NotImplementedError

    def project(self, out: Tensor, x: Tensor) -> Tensor:
        """Project the attention's output ``out`` (T, H * D) to (T, C); ``x`` (T, C) is what ``qkv`` was given."""
        raise NotImplementedError

    def attend(
        self,
        x: Tensor,
        tokens: TokenSet,
        keys: Tensor | None = None,
        prop_attn: bool = False,
        rope: Tensor | None = None,
        visible: Tensor | None = None,
    ) -> tuple[Tensor, QKV]:
        """Run the attention on normalized tokens ``x`` (T, C), see ``self_attention``."""
        return self_attention(self, x, tokens, keys, prop_attn, rope, visible)

    @property
    def attn_dropout(self) -> float:
        """Probability with which attention weights are dropped, 0 in evaluation."""
        return 0.0

    def scale1(self, out: Tensor) -> Tensor:
        """Scale (or drop out) the attention's branch (T, C)."""
        return out

    def scale2(self, out: Tensor) -> Tensor:
        """Scale (or drop out) the branch (T, C) of the MLP."""
        return out

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return all parameters of the block."""
        return self.block.parameters()
