"""ViT-Adapter's spatial prior module, a small convolutional pyramid (Chen et al., ICLR 2023, section 3.2).

Shapes: B images, C channels, c1 at stride 4 as a map; c2, c3, c4 at strides 8, 16, 32 as sequences.
"""

from __future__ import annotations

from mmcv.cnn import build_norm_layer
from torch import Tensor, nn


class SpatialPriorModule(nn.Module):
    """Convolutional pyramid with outputs of strides 4, 8, 16 and 32.

    Args:
        inplanes: channels of the stem; 64 in T and S.
        embed_dim: C of the ViT.
        norm_cfg: config of the norms.
    """

    def __init__(self, inplanes: int, embed_dim: int, norm_cfg: dict) -> None:
        super().__init__()

        def conv(ins: int, outs: int, stride: int) -> list[nn.Module]:
            return [
                nn.Conv2d(ins, outs, 3, stride, 1, bias=False),
                build_norm_layer(norm_cfg, outs)[1],
                nn.ReLU(inplace=True),
            ]

        self.stem = nn.Sequential(
            *conv(3, inplanes, 2), *conv(inplanes, inplanes, 1), *conv(inplanes, inplanes, 1), nn.MaxPool2d(3, 2, 1)
        )
        self.conv2 = nn.Sequential(*conv(inplanes, 2 * inplanes, 2))
        self.conv3 = nn.Sequential(*conv(2 * inplanes, 4 * inplanes, 2))
        self.conv4 = nn.Sequential(*conv(4 * inplanes, 4 * inplanes, 2))
        self.fc1 = nn.Conv2d(inplanes, embed_dim, 1)
        self.fc2 = nn.Conv2d(2 * inplanes, embed_dim, 1)
        self.fc3 = nn.Conv2d(4 * inplanes, embed_dim, 1)
        self.fc4 = nn.Conv2d(4 * inplanes, embed_dim, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return c1 (B, C, h/4, w/4) and c2, c3, c4 (B, n, C) of images (B, 3, h, w)."""
        c1 = self.stem(image)
        c2 = self.conv2(c1)
        c3 = self.conv3(c2)
        c4 = self.conv4(c3)
        sequences = (fc(c).flatten(2).transpose(1, 2) for fc, c in ((self.fc2, c2), (self.fc3, c3), (self.fc4, c4)))
        return self.fc1(c1), *sequences
