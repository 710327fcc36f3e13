"""The backbone without an adapter: a plain ViT whose maps are up- and down-sampled to a pyramid.

Shapes: B images, h x w pixels, H x W grid of stride 16, N = H * W, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.registry import MODELS
from torch import Tensor, nn

from token_pruning.errors import SettingError
from token_pruning.tokens import feature_map

from .host import DetectionViT


@MODELS.register_module()
class ViTBaseline(DetectionViT):
    """A plain ViT with maps of strides 4, 8, 16 and 32.

    Args:
        out_indices: four blocks whose maps become the strides 4, 8, 16, 32, or one block for all of them.
        trunk: arguments of ``PlainViT`` and ``init_cfg``.

    Raises:
        SettingError: there are not one or four indices, or they are out of order.
    """

    def __init__(self, out_indices: Sequence[int] = (2, 5, 8, 11), **trunk) -> None:
        super().__init__(**trunk)
        self.out_indices = list(out_indices)
        if len(out_indices) not in (1, 4) or sorted({*out_indices} & {*range(self.depth)}) != self.out_indices:
            raise SettingError(
                f"out_indices {self.out_indices}: give one or four of the blocks 0 to {self.depth - 1}, ascending"
            )
        dim = self.embed_dim
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(dim, eps=1e-6) for _ in range(4))
        self.up1 = nn.Sequential(
            nn.ConvTranspose2d(dim, dim, 2, 2), nn.GroupNorm(32, dim), nn.GELU(), nn.ConvTranspose2d(dim, dim, 2, 2)
        )
        self.up2 = nn.ConvTranspose2d(dim, dim, 2, 2)
        self.up3 = nn.Identity()
        self.up4 = nn.MaxPool2d(2, 2)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return maps (B, C, ceil(h / s), ceil(w / s)), s = 4, 8, 16, 32, of images (B, 3, h, w) of any size."""
        size = tuple(image.shape[-2:])
        stack = self.start(self.pad(image))
        maps = []
        for last in self.out_indices:
            stack.run_to(last)
            maps.append(stack.map())
        stack.finish()
        levels = zip(
            maps * (4 // len(maps)),
            (self.norm1, self.norm2, self.norm3, self.norm4),
            (self.up1, self.up2, self.up3, self.up4),
            strict=True,
        )
        return self.crop([up(self.lay_out(feature_map(norm(m), stack.tokens.grid))) for m, norm, up in levels], size)
