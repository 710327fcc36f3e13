"""How a Hugging Face vision tower makes tokens from an image, for reducers that read the image.

Shapes: B images, N positions, H x W grid, h x w pixels of a patch, T patches, C channels.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..embedding import PatchEmbedding
from .families import Family


def embedding_of(tower: Any, family: Family, grid: tuple[int, int], pixels: Tensor, x: Tensor) -> PatchEmbedding:
    """Return the embedding by which a tower made its first tokens.

    The patches are embedded once more: the tower keeps them to itself, and they are a small part of a forward.

    Args:
        tower: the tower.
        family: its family.
        grid: (H, W) of the images.
        pixels: the images, of any size that the tower takes.
        x: (B, N, C) the tokens.
    """
    projection = patch_projection(tower)
    height, width = (n * p for n, p in zip(grid, patch_size(tower), strict=True))
    image = pixels[..., :height, :width]

    def project(patches: Tensor) -> Tensor:
        return projection(patches.to(x.dtype)).flatten(2).mT

    def finish(tokens: Tensor) -> Tensor:
        # Dropout is part of the embeddings or, in EoMT DINOv3, of the tower; the norm is CLIP's.
        for owner, name in ((tower.embeddings, "dropout"), (tower, "dropout"), (tower, "pre_layrnorm")):
            tokens = getattr(owner, name)(tokens) if hasattr(owner, name) else tokens
        return tokens

    positions = _positions(tower, family, grid, pixels, x)
    return PatchEmbedding(image, grid, project(image), positions, lambda parts: project(parts).squeeze(1), finish)


def _positions(tower: Any, family: Family, grid: tuple[int, int], pixels: Tensor, x: Tensor) -> Tensor | None:
    """Return the table (1, H * W, C) that the tower adds to patches, or None."""
    parts = tower.embeddings
    table: Any = getattr(parts, "position_embeddings", getattr(parts, "position_embedding", None))
    if table is None:
        return None
    if isinstance(table, nn.Embedding):
        table = table.weight[None]
    size, own = tuple(pixels.shape[-2:]), tower.config.image_size
    if hasattr(parts, "interpolation"):  # YOLOS resamples at every size
        table = parts.interpolation(table, size)
    elif size != ((own, own) if isinstance(own, int) else tuple(own)):
        table = parts.interpolate_pos_encoding(x, *size)
    number, back = grid[0] * grid[1], family.back(tower.config)
    return table[:, table.shape[1] - back - number :][:, :number]


def patch_projection(tower: Any) -> nn.Module:
    """Return the module that embeds patches, (B, 3, H * h, W * w) -> (B, C, H, W)."""
    found = tower.embeddings if hasattr(tower, "embeddings") else tower.patch_embed  # SAM has the latter only
    for name in ("patch_embeddings", "patch_embedding", "projection"):
        found = getattr(found, name, found)
    return found


def patch_size(tower: Any) -> tuple[int, int]:
    """Return the (height, width) of a patch in pixels."""
    # The projection itself may be wrapped.
    convolution = next(m for m in patch_projection(tower).modules() if isinstance(m, nn.Conv2d))
    return convolution.stride  # type: ignore[return-value]
