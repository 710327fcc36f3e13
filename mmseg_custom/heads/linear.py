"""A linear layer on the last map, the simplest decoder of a plain ViT.

"Token Cropr", Bergner et al., CVPR 2025; "Segmenter", Strudel et al., ICCV 2021.

Shapes: B images, K classes, H x W grid of patches, h x w pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import accuracy
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from .pixels import predicted_size, to_pixels


@MODELS.register_module()
class LinearHead(BaseDecodeHead):
    """A linear classifier of each patch, whose logits are resampled to the pixels that the patches cover.

    The result is cropped to the image, so that an image whose sides are no multiples of the patch is not stretched.

    Args:
        in_channels: C.
        num_classes: K.
        patch_size: side of a patch in pixels.
        head: further arguments of ``BaseDecodeHead`` (in_index, loss_decode, ignore_index, ...).
    """

    def __init__(self, in_channels: int, num_classes: int, patch_size: int = 16, **head) -> None:
        super().__init__(in_channels, in_channels, num_classes=num_classes, dropout_ratio=0, init_cfg=None, **head)
        self.patch_size = patch_size
        nn.init.trunc_normal_(self.conv_seg.weight, std=0.02)
        self.conv_seg.weight.data.mul_(0.001)  # starts at chance level, as EVA's heads do
        nn.init.zeros_(self.conv_seg.bias)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the logits (B, K, H, W) of the backbone's maps."""
        return self.cls_seg(self._transform_inputs(inputs))

    def to_pixels(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Resample logits (B, K, H, W) to (B, K, h, w) pixels."""
        return to_pixels(logits, [side * self.patch_size for side in logits.shape[-2:]], size)

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: Sequence[SegDataSample]) -> dict[str, Tensor]:
        """Return the loss at the pixels of the label maps, and ``acc_seg``."""
        labels = self._stack_batch_gt(batch_data_samples).squeeze(1)
        pixels = self.to_pixels(seg_logits, labels.shape[1:])
        loss = self.loss_decode(pixels, labels, ignore_index=self.ignore_index)
        return {self.loss_decode.loss_name: loss, "acc_seg": accuracy(pixels, labels, ignore_index=self.ignore_index)}

    def predict_by_feat(self, seg_logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Return the logits (B, K, h, w) at the pixels of the input."""
        return self.to_pixels(seg_logits, predicted_size(batch_img_metas))
