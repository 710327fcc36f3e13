"""ViTDet's simple feature pyramid, whose levels are all computed from a plain ViT's last map.

"Exploring Plain Vision Transformer Backbones for Object Detection", Li et al., ECCV 2022, section 3.

Shapes: B images, H x W grid of stride 16, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine import registry
from mmengine.model import BaseModule
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from token_pruning.errors import SettingError

# Layer norm over the channels of each position, as in ViTDet's heads; in MMEngine's registry for all toolboxes.
registry.MODELS.register_module("LN2d", module=LayerNorm2d)


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Pyramid of strides 4 to 64 made of one map of stride 16.

    Transposed convolutions make the strides 4 and 8, each halving the channels, and max pooling makes 32. On every
    level a 1 x 1 and a 3 x 3 convolution with norms follow. Stride 64 takes every other position of stride 32.

    Args:
        in_channels: C of the map.
        out_channels: channels of every level.
        norm_cfg: config of the norms after the convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int = 256, norm_cfg: dict | None = None) -> None:
        super().__init__()
        self.in_channels = in_channels
        half, quarter = in_channels // 2, in_channels // 4
        self.resize = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(in_channels, half, 2, 2),
                    LayerNorm2d(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, 2),
                ),
                nn.ConvTranspose2d(in_channels, half, 2, 2),
                nn.Identity(),
                nn.MaxPool2d(2, 2, ceil_mode=True),  # ceil_mode: a grid with odd sides loses no position
            ]
        )
        common = dict(norm_cfg=norm_cfg or dict(type="LN2d", eps=1e-6), act_cfg=None, bias=False)
        self.out = nn.ModuleList(
            nn.Sequential(
                ConvModule(channels, out_channels, 1, **common),
                ConvModule(out_channels, out_channels, 3, padding=1, **common),
            )
            for channels in (quarter, half, in_channels, in_channels)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return maps of strides 4, 8, 16, 32, 64 of one map (B, C, H, W).

        Raises:
            SettingError: there are several maps, or the map has other than ``in_channels``.
        """
        if len(maps) != 1:
            raise SettingError(
                f"SimpleFeaturePyramid got {len(maps)} maps and takes only the last: remove the backbone's out_indices"
            )
        if maps[0].shape[1] != self.in_channels:
            raise SettingError(
                f"SimpleFeaturePyramid has in_channels {self.in_channels} and its map {maps[0].shape[1]}: set the "
                "neck's in_channels to the backbone's embed_dim"
            )
        levels = [out(resize(maps[0])) for resize, out in zip(self.resize, self.out, strict=True)]
        return [*levels, F.max_pool2d(levels[-1], 1, 2)]
