"""What the ViT backbones of detectors share: maps of the strides 4 to 32."""

from __future__ import annotations

from mmcv_custom.models.vit_backbone import HostViT


class DetectionViT(HostViT):
    """Base of the backbones; arguments of ``HostViT``.

    Raises:
        ValueError: a patch size other than 16, which the strides 4 to 32 of the outputs rest on.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, **host) -> None:
        super().__init__(**host)
        if self.patch_embed.patch_size != (16, 16):
            raise ValueError(
                f"patch_size is {self.patch_embed.patch_size[0]}, but output strides {self.strides} need 16"
            )
