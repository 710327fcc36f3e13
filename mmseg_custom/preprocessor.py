"""Batches of images, with one sentence where they have no common size.

Shapes: images (3, h, w).
"""

from __future__ import annotations

from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS

from mmcv_custom.errors import DataError


@MODELS.register_module()
class SegPreprocessor(SegDataPreProcessor):
    """mmseg's, which asserts or leaves it to torch. In testing nothing is padded to a common size: to a vision
    transformer padding is part of the image."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """Raises DataError for images of different sizes; in training, for those that ``size`` leaves different."""
        sizes = sorted({tuple(image.shape[-2:]) for image in data["inputs"]})
        if not training and len(sizes) > 1:
            raise DataError(
                f"images of one batch have the sizes {sizes}: test with batch_size=1, or resize all to one size"
            )
        if training and self.size and len({(max(h, self.size[0]), max(w, self.size[1])) for h, w in sizes}) > 1:
            raise DataError(
                f"images of one batch have the sizes {sizes}, and not all fit into the "
                f"data_preprocessor's size {tuple(self.size)}: crop the training images to that size"
            )
        return super().forward(data, training)
