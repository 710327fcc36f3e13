"""EoMT as a panoptic and instance segmentor.

Shapes: B images, h x w pixels, S the size that the encoder takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.detectors import MaskFormer
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from torch import Tensor

from mmcv_custom.errors import ConfigError, DataError
from mmcv_custom.models.eomt import Prediction, on_black, predictions
from mmcv_custom.models.eomt_head import check_encoder

from .detectors import PrunedDetector


@MODELS.register_module()
class EoMTDetector(PrunedDetector, MaskFormer):
    """An ``EoMTEncoder`` with an ``EoMTPanopticHead``; mmdetection's ``MaskFormerFusionHead`` makes the results.

    Images are padded with black pixels at the bottom and right to the encoder's size.

    Raises:
        ConfigError: encoder and head do not fit each other, or more results are asked for than there are.
    """

    def __init__(self, *args, **detector) -> None:
        super().__init__(*args, **detector)
        check_encoder(self.backbone, self.panoptic_head)
        most = self.panoptic_head.num_queries * self.panoptic_head.num_classes
        asked = self.test_cfg.get("max_per_image", 100)  # mmdetection's default
        if self.test_cfg.get("instance_on", False) and asked > most:
            raise ConfigError(
                f"test_cfg.max_per_image is {asked}, and {self.panoptic_head.num_queries} queries with "
                f"{self.panoptic_head.num_classes} classes give {most} results: set it to at most that"
            )

    def extract_feat(self, batch_inputs: Tensor) -> list[Prediction]:
        """Return the predictions on images of the encoder's size."""
        return predictions(self.backbone, self.panoptic_head.network, batch_inputs)

    def loss(self, batch_inputs: Tensor, batch_data_samples: Sequence[DetDataSample]) -> dict:
        """Return the losses of all predictions, and the reducer's."""
        return super().loss(self._on_black(batch_inputs, batch_data_samples), batch_data_samples)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: Sequence[DetDataSample], rescale: bool = True
    ) -> Sequence[DetDataSample]:
        """Return the samples with the results of the fusion head, at the images' original size with ``rescale``."""
        return super().predict(self._on_black(batch_inputs, batch_data_samples), batch_data_samples, rescale)

    def _on_black(self, images: Tensor, samples: Sequence[DetDataSample]) -> Tensor:
        """Return each image alone on black of the encoder's size, so that no other image of the batch changes it.

        Raises:
            DataError: an image is larger.
        """
        size = self.backbone.img_size
        out = images.new_empty(*images.shape[:2], *size)
        for i, sample in enumerate(samples):
            height, width = sample.img_shape[:2]
            if height > size[0] or width > size[1]:
                raise DataError(
                    f"an image is {height} x {width} pixels after the pipeline and the encoder takes {size[0]} x "
                    f"{size[1]}: resize images to that scale, or crop them"
                )
            out[i : i + 1] = on_black(images[i : i + 1, :, :height, :width], size, self.data_preprocessor)
            sample.set_metainfo(dict(batch_input_shape=size))
        return out
