"""EoMT as a semantic segmentor.

Shapes: B images, h x w pixels, S the size that the encoder takes, K classes.
"""

from __future__ import annotations

import torch
from mmseg.registry import MODELS
from torch import Tensor

from mmcv_custom.models.eomt import Prediction, even_windows, on_black, predictions
from mmcv_custom.models.eomt_head import check_encoder

from .pruned import PrunedEncoderDecoder


@MODELS.register_module()
class EoMTSegmentor(PrunedEncoderDecoder):
    """An ``EoMTEncoder`` with an ``EoMTSemanticHead``, on images of any size.

    Training images have the encoder's size or are padded with black pixels. A larger image is tested in as few evenly
    overlapping windows as cover it, and scores are averaged where they overlap; the test pipeline resizes the short
    side to the encoder's.

    Raises:
        ConfigError: encoder and head do not fit each other.
    """

    def __init__(self, *args, **segmentor) -> None:
        super().__init__(*args, **segmentor)
        check_encoder(self.backbone, self.decode_head)

    def extract_feat(self, inputs: Tensor) -> list[Prediction]:
        """Return the predictions on images (B, 3, h, w), no larger than the encoder's."""
        inputs = on_black(inputs, self.backbone.img_size, self.data_preprocessor)
        return predictions(self.backbone, self.decode_head.network, inputs)

    def inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Return the scores (B, K, h, w) of images (B, 3, h, w): the mean over the windows that show a pixel."""
        size, (height, width) = self.backbone.img_size, inputs.shape[-2:]
        image = on_black(inputs, size, self.data_preprocessor)
        scores = image.new_zeros(image.shape[0], self.num_classes, *image.shape[-2:], dtype=torch.float32)
        shown = scores.new_zeros(image.shape[-2:])
        for top, left in self.window_corners((height, width)):
            area = (..., slice(top, top + size[0]), slice(left, left + size[1]))
            scores[area] += self.decode_head.scores(self.extract_feat(image[area])[-1], size)
            shown[area] += 1
        return (scores / shown)[..., :height, :width]

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Return the scores of whole images, as ``inference`` does."""
        return self.inference(inputs, batch_img_metas)

    def window_corners(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Return (y, x) of the windows on an image of ``size`` (h, w), row by row."""
        ys, xs = (even_windows(max(a, b), b) for a, b in zip(size, self.backbone.img_size, strict=True))
        return [(y, x) for y in ys for x in xs]
