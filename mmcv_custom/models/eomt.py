"""EoMT, a plain ViT that segments with queries among its tokens and no decoder, with token reduction.

"Your ViT is Secretly an Image Segmentation Model", Kerssies et al., CVPR 2025.

Shapes: B images, h x w pixels, H x W grid of patches, P prefix tokens (class token, registers), Q queries, N positions
(queries, prefix, grid), C channels, k blocks that queries go through, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from token_pruning.errors import SettingError
from token_pruning.tokens import feature_map

from .vit_backbone import HostViT

Prediction = tuple[Tensor, Tensor]  # class logits (B, Q, K + 1), mask logits (B, Q, h / stride, w / stride)
Head = Callable[[Tensor, Tensor], Prediction]


@MODELS.register_module()
class EoMTEncoder(HostViT):
    """A ViT whose last blocks also run learned queries; registered in MMEngine's root registry.

    The parameters have timm's names, beside ``query.weight`` and the buffer ``attn_mask_probs``. A reducer may prune
    any block; queries are prefix tokens, which it neither scores nor merges nor drops. The grid is restored once before
    the head, and before each earlier prediction.

    Args:
        num_queries: Q.
        query_blocks: k; queries enter before block ``depth - k``.
        patch_size: a pretrained patch embedding of another size is resampled when it is loaded.
        host: arguments of ``PlainViT`` and ``init_cfg``: ``model_name`` ("vit_large_patch14_reg4_dinov2",
            "vit_large_patch16_dinov3_qkvb", ...), ``reducer``, ... ``img_size`` is the only size of images that the
            encoder takes.

    Raises:
        SettingError: sizes, k, Q or the reducer do not fit the model.
    """

    def __init__(self, num_queries: int = 200, query_blocks: int = 4, patch_size: int = 16, **host: Any) -> None:
        super().__init__(patch_size=patch_size, **host)
        patch = self.patch_embed.patch_size[0]
        self.img_size = (self.table_grid[0] * patch, self.table_grid[1] * patch)
        self.strides = [patch]
        if host.get("img_size", self.img_size) not in (self.img_size[0], self.img_size, [*self.img_size]):
            raise SettingError(f"img_size is {host['img_size']}: give multiples of the patch of {patch} pixels")
        if num_queries < 1 or not 1 <= query_blocks <= self.depth:
            raise SettingError(
                f"{num_queries} queries in the last {query_blocks} blocks do not fit a ViT of {self.depth} blocks: "
                f"give num_queries of at least 1 and query_blocks from 1 to {self.depth}"
            )
        if self.reducer is not None and self.reducer.needs_class_scores and self.reducer.pruned_blocks:
            raise SettingError(
                f"{type(self.reducer).__name__} drops tokens on class scores of patches, and EoMT predicts classes "
                "of queries only: use a method without class scores (ToMe, EViT, SViT, ...)"
            )
        self.num_queries, self.query_blocks = num_queries, query_blocks
        self.norm = nn.LayerNorm(self.embed_dim, eps=self.blocks[0].norm1.eps).requires_grad_(not self.frozen)
        self.query = nn.Embedding(num_queries, self.embed_dim)
        self.register_buffer("attn_mask_probs", torch.zeros(query_blocks))
        self._probs = (0.0,) * query_blocks  # the same where reading them costs nothing
        self.register_load_state_dict_post_hook(_read_probs)

    @property
    def mask_probs(self) -> tuple[float, ...]:
        """The probability in each of the last k blocks that a query attends only to the pixels of its own mask."""
        return self._probs

    @mask_probs.setter
    def mask_probs(self, probs: Sequence[float]) -> None:
        if len(probs) != self.query_blocks or any(not 0 <= p <= 1 for p in probs):
            raise SettingError(
                f"mask_probs is {list(probs)}: give a probability for each of {self.query_blocks} blocks"
            )
        self.attn_mask_probs.copy_(torch.tensor(probs, dtype=self.attn_mask_probs.dtype))
        self._probs = tuple(float(p) for p in probs)

    def forward(self, image: Tensor, head: Head | None = None) -> list[Tensor]:
        """Run the encoder on images (B, 3, h, w) of ``img_size``.

        Args:
            head: predicts from queries and map before each of the last k blocks: in training before all of them, in
                evaluation before those with masked attention. Without it, every query attends to all tokens.

        Returns:
            The queries (B, Q, C) and the map (B, C, H, W), both after the final norm, then the class logits and the
            mask logits of each of the head's predictions.

        Raises:
            SettingError: the images have another size.
        """
        if tuple(image.shape[-2:]) != self.img_size:
            raise SettingError(
                f"an image of {image.shape[-2]} x {image.shape[-1]} pixels does not fit an EoMTEncoder made for "
                f"{self.img_size[0]} x {self.img_size[1]}: resize, pad or crop to that size, or set img_size"
            )
        stack = self.start(image)
        grid = stack.tokens.grid
        first = self.depth - self.query_blocks
        stack.run(0, first - 1)
        stack.prepend(self.query.weight.expand(image.shape[0], -1, -1))
        earlier: list[Tensor] = []
        for block, probability in zip(range(first, self.depth), self._probs, strict=True):
            visible = None
            if head is not None and (self.training or probability):
                earlier += head(*self._split(stack.map(with_prefix=True), grid))
                if probability:
                    visible = visible_positions(earlier[-1], grid, stack.tokens.prefix, probability)
            stack.run(block, block, visible)
        return [*self._split(stack.finish(with_prefix=True), grid), *earlier]

    def _split(self, dense: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the normalized queries (B, Q, C) and grid (B, C, H, W) of a map (B, N, C)."""
        dense = self.norm(dense)
        return dense[:, : self.num_queries], feature_map(dense[:, -grid[0] * grid[1] :], grid)


@torch.no_grad()
def visible_positions(mask_logits: Tensor, grid: tuple[int, int], prefix: int, probability: float = 1.0) -> Tensor:
    """Return how visible each position is to each query, (B, N, Q): where positive, the query may attend to it.

    The mask logits at the patches (bilinear, without antialiasing); infinite at prefix tokens, and everywhere for
    queries that keep their mask only with a ``probability`` and were not drawn.

    Args:
        mask_logits: (B, Q, h / stride, w / stride).
        grid: (H, W).
        prefix: number of positions before the grid.
    """
    logits = F.interpolate(mask_logits.float(), grid, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
    if probability < 1:
        drawn = torch.rand(logits.shape[0], 1, logits.shape[2], device=logits.device) < probability
        logits = logits.masked_fill(~drawn, torch.inf)
    return F.pad(logits, (0, 0, prefix, 0), value=torch.inf)


def predictions(encoder: EoMTEncoder, head: Head, image: Tensor) -> list[Prediction]:
    """Return what an encoder and a head predict on images (B, 3, h, w), the last block's prediction last."""
    # Without the head where it is not needed: a compiled or captured encoder takes images only.
    masked = encoder.training or any(encoder.mask_probs)
    queries, features, *earlier = encoder(image, head) if masked else encoder(image)
    return [*zip(earlier[::2], earlier[1::2], strict=True), head(queries, features)]


def on_black(image: Tensor, size: tuple[int, int], preprocessor: nn.Module) -> Tensor:
    """Pad normalized images (B, 3, h, w) at the bottom and right with black pixels to at least ``size`` (h, w)."""
    height, width = (max(side, least) for side, least in zip(image.shape[-2:], size, strict=True))
    if (height, width) == tuple(image.shape[-2:]):
        return image
    mean, std = getattr(preprocessor, "mean", None), getattr(preprocessor, "std", None)
    black = 0 if mean is None else (-mean / std).to(image).view(1, 3, 1, 1)
    out = image.new_zeros(*image.shape[:2], height, width) + black
    out[..., : image.shape[-2], : image.shape[-1]] = image
    return out


def even_windows(length: int, size: int) -> list[int]:
    """Return the starts of as few windows of ``size`` as cover a ``length``, evenly overlapping."""
    number = -(-length // size)
    overlap = number * size - length
    return [0] if number <= 1 else [int(i * (size - overlap / (number - 1))) for i in range(number)]


def _read_probs(encoder: EoMTEncoder, incompatible: Any) -> None:
    encoder._probs = tuple(encoder.attn_mask_probs.tolist())
