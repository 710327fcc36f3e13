"""Plain ViT backbones with feature maps from several blocks, all of the patch stride.

Shapes: B images, h x w pixels, C channels, p pixels a patch.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from mmengine.registry import MODELS
from torch import Tensor, nn

from token_pruning.errors import SettingError
from token_pruning.tokens import feature_map

from .vit_backbone import HostViT


class StageEnds(HostViT):
    """Base of plain ViTs that output the tokens after some of their blocks.

    Args:
        out_indices: these blocks, ascending and including the last one; default: the last one only.
        host: arguments of ``PlainViT`` (sizes, patch, class token, reducer, ...) and ``init_cfg``.

    Raises:
        SettingError: blocks that do not exist or are out of order, or unused blocks after the last output.
    """

    def __init__(self, out_indices: Sequence[int] | None = None, **host) -> None:
        super().__init__(**host)
        self.out_indices = [self.depth - 1] if out_indices is None else list(out_indices)
        ascending = sorted({*self.out_indices} & {*range(self.depth)})
        if ascending != self.out_indices or self.depth - 1 not in ascending:
            raise SettingError(
                f"out_indices {self.out_indices}: list blocks from 0 to {self.depth - 1}, ascending, the "
                "last one included (a smaller depth leaves blocks out)"
            )
        self.strides = [self.patch_embed.patch_size[0]] * len(self.out_indices)


@MODELS.register_module()
class PlainViTBackbone(StageEnds):
    """Plain ViT that outputs feature maps; registered in MMEngine's root registry, where every toolbox finds it.

    Args:
        out_indices: see ``StageEnds``.
        final_norm: apply the final LayerNorm (``norm``, as in timm) to every map.
        host: arguments of ``StageEnds``.
    """

    def __init__(self, out_indices: Sequence[int] | None = None, final_norm: bool = True, **host) -> None:
        super().__init__(out_indices, **host)
        self.norm = nn.Identity()
        if final_norm:  # of the kind that the blocks have
            self.norm = copy.deepcopy(self.blocks[0].norm1)
            self.norm.reset_parameters()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return a map (B, C, ceil(h / p), ceil(w / p)) of images (B, 3, h, w) for each of ``out_indices``."""
        stack = self.start(self.pad(image))
        maps = []
        for last in self.out_indices:
            stack.run_to(last)
            dense_map = stack.map() if last < self.depth - 1 else stack.finish()
            maps.append(feature_map(self.norm(dense_map), stack.tokens.grid))
        return self.crop(maps, tuple(image.shape[-2:]))
