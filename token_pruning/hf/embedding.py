"""How a Hugging Face vision tower makes tokens from an image, for reducers that read the image.

Shapes: B images, N positions, H x W grid, h x w pixels of a patch, T patches, C channels.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..embedding import PatchEmbedding
from .families import Family


class ImageEmbedding:
    """The images of one forward and what the tower's patch embedding made of them.

    Args:
        tower: the tower.
        family: its family.
        grid: (H, W) of the images.
        pixels: the images, of any size that the tower takes.
    """

    def __init__(self, tower: Any, family: Family, grid: tuple[int, int], pixels: Tensor) -> None:
        self.tower, self.family, self.grid, self.pixels = tower, family, grid, pixels
        self._patches: Tensor | None = None

    def note(self, projection: nn.Module, args: tuple, patches: Tensor) -> None:
        """Take the embedded patches (B, C, H, W): a forward hook of ``patch_projection``."""
        if self._patches is None:
            self._patches = patches

    def of(self, x: Tensor) -> PatchEmbedding:
        """Return the embedding of which the tower made its first tokens ``x`` (B, N, C)."""
        assert self._patches is not None  # the tower has embedded the images before it calls a layer
        tower, projection, patches = self.tower, patch_projection(self.tower), self._patches
        # The norm before the first layer is CLIP's; dropout is part of the embeddings or, in EoMT DINOv3, of the tower.
        after = (getattr(tower.embeddings, "dropout", None), getattr(tower, "dropout", None))
        after = [part for part in (*after, getattr(tower, "pre_layrnorm", None)) if part is not None]

        def embed(parts: Tensor) -> Tensor:
            return projection(parts.to(patches.dtype)).flatten(1)

        def finish(tokens: Tensor) -> Tensor:
            for part in after:
                tokens = part(tokens)
            return tokens

        height, width = (n * p for n, p in zip(self.grid, patch_size(tower), strict=True))
        image = self.pixels[..., :height, :width]
        return PatchEmbedding(image, self.grid, patches.flatten(2).mT, self._positions(x), embed, finish)

    def _positions(self, x: Tensor) -> Tensor | None:
        """Return the table (1, H * W, C) that the tower adds to patches, or None."""
        parts: Any = self.tower.embeddings
        table = getattr(parts, "position_embeddings", getattr(parts, "position_embedding", None))
        if table is None:
            return None
        if isinstance(table, nn.Embedding):
            table = table.weight[None]
        size, own = tuple(self.pixels.shape[-2:]), self.tower.config.image_size
        if hasattr(parts, "interpolation"):  # YOLOS resamples at every size
            table = parts.interpolation(table, size)
        elif size != ((own, own) if isinstance(own, int) else tuple(own)):
            table = parts.interpolate_pos_encoding(x, *size)
        number, back = self.grid[0] * self.grid[1], self.family.back(self.tower.config)
        return table[:, table.shape[1] - back - number :][:, :number]


def patch_projection(tower: Any) -> nn.Module:
    """Return the module that embeds patches, (B, 3, H * h, W * w) -> (B, C, H, W)."""
    parts = tower.embeddings
    patches = parts.patch_embeddings if hasattr(parts, "patch_embeddings") else parts.patch_embedding
    return getattr(patches, "projection", patches)


def patch_size(tower: Any) -> tuple[int, int]:
    """Return the (height, width) of a patch in pixels."""
    # The projection itself may be wrapped.
    convolution = next(m for m in patch_projection(tower).modules() if isinstance(m, nn.Conv2d))
    return convolution.stride  # type: ignore[return-value]
