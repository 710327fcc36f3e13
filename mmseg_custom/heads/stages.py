"""What a head says at one stage, and how the stages' mask logits become one canvas.

Shapes: B images, T packed tokens, N = P + H x W positions, K classes, h x w pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from token_pruning import TokenSet

from .pixels import resize, to_pixels


@dataclass(frozen=True)
class StageOutput:
    """What one head knows about all positions, whoever looked last.

    Attributes:
        canvas: (B, N, K) mask logits: this head's where it looked, an earlier head's where a token has left, 0 where
            nobody looked.
        class_logits: (B, K, 2) of this head; None for a head that has none.
        grid: (H, W), ``prefix``: P.
        scores: (B, N, K) the scores that each token left with or has now; None if they are to be made from the canvas.
        covers: (h, w) pixels that the grid covers; ``size``: those of the image, without the padding.
    """

    mask_logits: Tensor
    class_logits: Tensor | None
    grid: tuple[int, int]
    prefix: int
    covers: tuple[int, int]
    size: tuple[int, int]
    scores: Tensor | None = None

    def map(self, values: Tensor) -> Tensor:
        """Values (B, N, K) of all positions on the grid (B, K, H, W)."""
        return values[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)

    def to_pixels(self, maps: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Maps (., ., H, W) resampled to the image's pixels, then to another ``size`` if that is asked for."""
        return resize(to_pixels(maps, self.covers, self.size), self.size if size is None else size)


def scatter(mask_logits: Tensor | None, tokens: TokenSet, values: Tensor) -> Tensor:
    """The ``mask_logits`` (B, N, K; None: nobody has looked yet) with new ``values`` (T, K) at the tokens of the set."""
    if mask_logits is None or tokens.is_full:
        return tokens.to_map(values)
    return mask_logits.flatten(0, 1).index_copy(0, tokens.index, values).view(mask_logits.shape)
