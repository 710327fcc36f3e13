"""The linear probe of DINOv2 and DINOv3: dropout, batch norm and a linear layer on frozen features.

"DINOv2", Oquab et al., TMLR 2024; "DINOv3", Simeoni et al., 2025.

Shapes: B images, K classes, H x W grid of patches, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmseg.registry import MODELS
from torch import Tensor, nn

from .linear import LinearHead


@MODELS.register_module()
class ProbeHead(LinearHead):
    """A linear classifier of each patch behind dropout and batch norm, which make up for the scale of the features.

    Args:
        in_channels: C.
        num_classes: K.
        dropout_ratio: probability that a channel of an image is dropped.
        head: further arguments of ``LinearHead``.
    """

    def __init__(self, in_channels: int, num_classes: int, dropout_ratio: float = 0.1, **head) -> None:
        super().__init__(in_channels, num_classes, **head)
        self.dropout, self.norm = nn.Dropout2d(dropout_ratio), nn.BatchNorm2d(in_channels)
        nn.init.normal_(self.conv_seg.weight, std=0.01)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the logits (B, K, H, W) of the backbone's maps."""
        return self.conv_seg(self.norm(self.dropout(self._transform_inputs(inputs))))
