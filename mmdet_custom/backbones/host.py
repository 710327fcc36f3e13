"""The base class of detectors' ViT backbones, with maps of strides 4 to 32."""

from __future__ import annotations

from mmcv_custom.models.vit_backbone import HostViT
from token_pruning.errors import SettingError


class DetectionViT(HostViT):
    """Base class of the backbones; takes the arguments of ``HostViT``.

    Raises:
        SettingError: the patch size is not 16, which the output strides 4 to 32 require.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, **host) -> None:
        super().__init__(**host)
        if self.patch_embed.patch_size != (16, 16):
            raise SettingError(
                f"patch_size is {self.patch_embed.patch_size[0]}, but output strides {self.strides} need 16"
            )
