"""What all ViT backbones of detectors share: padding inside, and starting from a pretrained ViT file.

Shapes: B images, h x w pixels, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import Tensor

from mmcv_custom.checkpoint import load_into
from token_pruning import PlainViT

STRIDES = (4, 8, 16, 32)


class DetectionViT(PlainViT, BaseModule):
    """Base of the backbones.

    Args:
        init_cfg: None, or ``dict(type='Pretrained', checkpoint=FILE)`` with a DeiT, timm, ViT-Adapter or SViT file in
            its published key schema.
        trunk: arguments of ``PlainViT``.

    Attributes:
        channels_last: convolutions get their input with channels last, and the outputs stay so; see
            ``mmcv_custom.acceleration``. Off, outputs are contiguous.

    Raises:
        ValueError: a patch size other than 16, which the strides 4 to 32 of the outputs rest on.
    """

    channels_last = False

    def __init__(self, init_cfg: dict | None = None, **trunk) -> None:
        super().__init__(**trunk)
        if self.patch_embed.patch_size != (16, 16):
            raise ValueError(f"patch_size is {self.patch_embed.patch_size[0]}, but output strides {STRIDES} need 16")
        self.init_cfg = init_cfg

    def pad(self, image: Tensor) -> Tensor:
        """(B, 3, h, w) with zeros at the bottom and right up to whole cells of every stride (zero is the mean colour
        after normalisation), in the layout that the convolutions want."""
        down, right = -image.shape[-2] % 32, -image.shape[-1] % 32
        return self.lay_out(F.pad(image, (0, right, 0, down)) if down or right else image)

    def lay_out(self, maps: Tensor) -> Tensor:
        """The same numbers (B, C, h, w) in the layout that the convolutions want."""
        return maps.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)

    def crop(self, maps: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Maps (B, C, ., .) of strides 4, 8, 16, 32 cut back to what an image of ``size`` (h, w) covers.

        Contiguous unless channels are to be last: maps made of token sequences have them last, convolutions of a neck
        would pass that on, and MMCV's RoIAlign on CPU reads any other layout as if it were contiguous, without a word.
        """
        maps = [m[..., :-(-size[0] // s), :-(-size[1] // s)] for m, s in zip(maps, STRIDES, strict=True)]
        return maps if self.channels_last else [m.contiguous() for m in maps]

    def init_weights(self) -> None:
        """Load ``init_cfg``'s file, if there is one; the constructor has initialised everything else."""
        if self.init_cfg is None:
            return
        if self.init_cfg.get("type") != "Pretrained" or "checkpoint" not in self.init_cfg:
            raise ValueError(f"init_cfg {dict(self.init_cfg)} of a ViT backbone must be None or "
                             "dict(type='Pretrained', checkpoint=FILE)")
        load_into(self, self.init_cfg["checkpoint"], logger=MMLogger.get_current_instance())
