"""What a host made its tokens from: for reducers that read the image, such as those that choose the size of patches.

Shapes: B images, H x W grid of patches, h x w pixels of a patch, T patches, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PatchEmbedding:
    """The image and the functions by which a host makes tokens from it.

    Attributes:
        image: (B, 3, H * h, W * w), normalized, padded or cropped to whole patches.
        grid: (H, W).
        patches: (B, H * W, C) embedded patches, without positions.
        positions: (1, H * W, C) table that the host adds, or None.
        embed: returns the embedding (T, C) of patches (T, 3, h, w), without positions.
        finish: what the host does to tokens (T, C) after it has added positions.
    """

    image: Tensor
    grid: tuple[int, int]
    patches: Tensor
    positions: Tensor | None
    embed: Callable[[Tensor], Tensor]
    finish: Callable[[Tensor], Tensor]

    @classmethod
    def of(
        cls,
        image: Tensor,
        grid: tuple[int, int],
        patches: Tensor,
        positions: Tensor | None,
        patch_embed: Any,
        finish: Callable[[Tensor], Tensor],
    ) -> PatchEmbedding:
        """Return the embedding of an ``image`` of any size by timm's ``PatchEmbed``; ``patches`` may be a map."""
        down, right = (n * p - s for n, p, s in zip(grid, patch_embed.patch_size, image.shape[-2:], strict=True))
        image = F.pad(image, (0, right, 0, down))

        def embed(parts: Tensor) -> Tensor:
            return patch_embed.norm(patch_embed.proj(parts).flatten(1))

        return cls(
            image, grid, patches.reshape(image.shape[0], grid[0] * grid[1], patches.shape[-1]), positions, embed, finish
        )
