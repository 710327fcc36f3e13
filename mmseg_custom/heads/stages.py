"""The output of one stage's head, for kept and exited tokens alike.

Shapes: B images, T packed tokens, N = P + H x W positions, K classes, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from token_pruning import TokenSet
from token_pruning.tokens import feature_map

from .pixels import resize, to_pixels


@dataclass(frozen=True)
class StageOutput:
    """The predictions of one head, completed by earlier heads where tokens have exited.

    Attributes:
        mask_logits: (B, N, K) of this head at its tokens, of an earlier head at tokens that have exited, 0 at tokens
            that no head has seen.
        class_logits: (B, K, 2) of this head; None for a head that has none.
        grid: (H, W).
        prefix: P.
        covers: (h, w) pixels that the grid covers.
        size: (h, w) of the image, without the padding.
        scores: (B, N, K) of each token at its last stage; None if they are to be computed from ``mask_logits``.
    """

    mask_logits: Tensor
    class_logits: Tensor | None
    grid: tuple[int, int]
    prefix: int
    covers: tuple[int, int]
    size: tuple[int, int]
    scores: Tensor | None = None

    def map(self, values: Tensor) -> Tensor:
        """Return values (B, N, K) as maps (B, K, H, W), without the prefix tokens."""
        return feature_map(values[:, self.prefix :], self.grid)

    def to_pixels(self, maps: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Resample maps (., ., H, W) to the pixels of the image, then to ``size`` if it is given."""
        return resize(to_pixels(maps, self.covers, self.size), self.size if size is None else size)


def scatter(mask_logits: Tensor | None, tokens: TokenSet, values: Tensor) -> Tensor:
    """Return ``mask_logits`` (B, N, K) with ``values`` (T, K) written at the tokens of the set; None reads as zeros."""
    if mask_logits is None or tokens.is_full:
        return tokens.to_map(values)
    return mask_logits.flatten(0, 1).index_copy(0, tokens.index, values).view(mask_logits.shape)
