"""What the ViT backbones of all tasks share: padding inside, cropping after, starting from a published ViT file.

Shapes: B images, h x w pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import Tensor

from token_pruning import PlainViT

from ..checkpoint.load import load_into


class HostViT(PlainViT, BaseModule):
    """Base of the backbones: a plain ViT that OpenMMLab builds from a config.

    Args:
        init_cfg: None, or ``dict(type='Pretrained', checkpoint=FILE)`` with a DeiT, timm, mmsegmentation, iBOT,
            ViT-Adapter or SViT file in its published key schema.
        trunk: arguments of ``PlainViT``.

    Attributes:
        strides: of the maps that a subclass gives out, one each.
        channels_last: convolutions get their input with channels last, and the outputs stay so; see
            ``mmcv_custom.engine.acceleration``. Off, outputs are contiguous.
    """

    strides: Sequence[int]
    channels_last = False

    def __init__(self, init_cfg: dict | None = None, **trunk) -> None:
        super().__init__(**trunk)
        self.init_cfg = init_cfg

    def pad(self, image: Tensor) -> Tensor:
        """(B, 3, h, w) with zeros at the bottom and right up to whole cells of every stride (zero is the mean colour
        after normalisation), in the layout that the convolutions want."""
        cell = math.lcm(*self.strides)
        down, right = -image.shape[-2] % cell, -image.shape[-1] % cell
        return self.lay_out(F.pad(image, (0, right, 0, down)) if down or right else image)

    def lay_out(self, maps: Tensor) -> Tensor:
        """The same numbers (B, C, h, w) in the layout that the convolutions want."""
        return maps.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)

    def crop(self, maps: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Maps (B, C, ., .), one of each stride, cut back to what an image of ``size`` (h, w) covers.

        Contiguous unless channels are to be last: maps made of token sequences have them last, convolutions of a neck
        would pass that on, and MMCV's RoIAlign on CPU reads any other layout as if it were contiguous, without a word.
        """
        maps = [m[..., : -(-size[0] // s), : -(-size[1] // s)] for m, s in zip(maps, self.strides, strict=True)]
        return maps if self.channels_last else [m.contiguous() for m in maps]

    def init_weights(self) -> None:
        """Load ``init_cfg``'s file, if there is one; the constructor has initialised everything else."""
        if self.init_cfg is None:
            return
        if self.init_cfg.get("type") != "Pretrained" or "checkpoint" not in self.init_cfg:
            raise ValueError(
                f"init_cfg {dict(self.init_cfg)} of a ViT backbone must be None or "
                "dict(type='Pretrained', checkpoint=FILE)"
            )
        load_into(self, self.init_cfg["checkpoint"], logger=MMLogger.get_current_instance())
