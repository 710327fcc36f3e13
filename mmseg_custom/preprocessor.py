"""Batching of images, with a clear error if their sizes differ.

Shapes: images (3, h, w).
"""

from __future__ import annotations

from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS

from mmcv_custom.errors import DataError


@MODELS.register_module()
class SegPreprocessor(SegDataPreProcessor):
    """mmseg's preprocessor with a check of the image sizes.

    At test time images are not padded to a common size, because a vision transformer treats padding as image content.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise and batch the images as mmseg does.

        Raises:
            DataError: the images have different sizes; in training, also after padding to ``size``.
        """
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
