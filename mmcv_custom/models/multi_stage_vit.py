"""The plain ViT of segmentors and ViTDet: maps of one stride, the patch's, from any of its blocks.

Shapes: B images, h x w pixels, C channels, p pixels a patch.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.registry import MODELS
from torch import Tensor, nn

from .vit_backbone import HostViT


class StageEnds(HostViT):
    """Base: a plain ViT that is looked at after some of its blocks.

    Args:
        out_indices: these blocks, ascending, the last block among them; default the last alone.
        host: arguments of ``PlainViT`` (sizes, patch, class token, reducer, ...) and ``init_cfg``.

    Raises:
        ValueError: blocks that do not exist or are out of order, or blocks after the last map, which nothing reads.
    """

    def __init__(self, out_indices: Sequence[int] | None = None, **host) -> None:
        super().__init__(**host)
        self.out_indices = [self.depth - 1] if out_indices is None else list(out_indices)
        ascending = sorted({*self.out_indices} & {*range(self.depth)})
        if ascending != self.out_indices or self.depth - 1 not in ascending:
            raise ValueError(
                f"out_indices {self.out_indices}: list blocks from 0 to {self.depth - 1}, ascending, the "
                "last one included (a smaller depth leaves blocks out)"
            )
        self.strides = [self.patch_embed.patch_size[0]] * len(self.out_indices)


@MODELS.register_module()
class PlainViTBackbone(StageEnds):
    """Gives out maps; registered where every toolbox finds it.

    Args:
        final_norm: every map passes the final LayerNorm, whose name ``norm`` is timm's; False for the raw values.
        host: arguments of ``StageEnds``.
    """

    def __init__(self, out_indices: Sequence[int] | None = None, final_norm: bool = True, **host) -> None:
        super().__init__(out_indices, **host)
        self.norm = nn.LayerNorm(self.embed_dim, eps=self.blocks[0].norm1.eps) if final_norm else nn.Identity()

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, h, w) of any size -> one map (B, C, ceil(h / p), ceil(w / p)) for each of ``out_indices``."""
        stack = self.start(self.pad(image))
        maps, first = [], 0
        for last in self.out_indices:
            stack.run(first, last)
            dense_map = stack.map() if last < self.depth - 1 else stack.finish()
            maps.append(self.norm(dense_map).transpose(1, 2).unflatten(2, stack.tokens.grid))
            first = last + 1
        return self.crop(maps, tuple(image.shape[-2:]))
