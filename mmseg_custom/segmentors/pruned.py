"""Segmentors that train their backbone's reducer; the mix-in ``mmcv_custom.models.reducer_mixin`` does so for any.

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.logging import MMLogger
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from mmcv_custom.checkpoint.load import load_into
from mmcv_custom.errors import ConfigError
from mmcv_custom.models.reducer_mixin import ReducerLosses
from token_pruning.auxiliary import Criterion, token_labels


@MODELS.register_module()
class PrunedEncoderDecoder(ReducerLosses, EncoderDecoder):
    """Encoder-decoder, whole-image or sliding-window, whose backbone may have a reducer.

    The reducer's auxiliary heads learn the label of each patch's first pixel, as nearest-neighbour resampling would
    give it.

    Raises:
        ConfigError: the windows of ``test_cfg`` leave pixels uncovered, or its mode is unknown.
    """

    def __init__(self, *args, **encoder_decoder) -> None:
        super().__init__(*args, **encoder_decoder)
        cfg = self.test_cfg or {}
        mode, crop, stride = cfg.get("mode", "whole"), cfg.get("crop_size"), cfg.get("stride")
        if mode not in ("whole", "slide"):
            raise ConfigError(f"test_cfg.mode is {mode!r}; choose 'whole' or 'slide'")
        pairs = all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in (crop, stride))
        if mode == "slide" and not (pairs and 0 < stride[0] <= crop[0] and 0 < stride[1] <= crop[1]):
            raise ConfigError(
                f"test_cfg slides windows of crop_size {crop} by stride {stride}: give both as (height, "
                "width), the stride from 1 to the window's side"
            )

    def init_weights(self) -> None:
        """Initialise as mmengine does, but load a pretrained file with this project's loader.

        So the file of ``init_cfg=dict(type='Pretrained', checkpoint=FILE)`` has its names converted, and missing
        weights are reported.
        """
        init_cfg = self.init_cfg
        pretrained = isinstance(init_cfg, dict) and init_cfg.get("type") == "Pretrained"
        self.init_cfg = None if pretrained else init_cfg
        super().init_weights()
        self.init_cfg = init_cfg
        if pretrained:
            averaged = init_cfg.get("averaged", True)
            load_into(self, init_cfg["checkpoint"], logger=MMLogger.get_current_instance(), averaged=averaged)

    def slide_inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Slide a window over the images as mmseg does, but predict an image that fits into one window directly.

        That saves copies of its scores for all classes.
        """
        crop = self.test_cfg["crop_size"]
        fits = inputs.shape[-2] <= crop[0] and inputs.shape[-1] <= crop[1]
        return (self.whole_inference if fits else super().slide_inference)(inputs, batch_img_metas)

    def criterion(self, data_samples: Sequence[SegDataSample]) -> Criterion:
        """Return the loss of the reducer's auxiliary heads: cross entropy with the label of each patch."""
        labels, patch = self.label_maps(data_samples), self.backbone.patch_embed.patch_size[0]
        return token_labels(labels[:, ::patch, ::patch].long(), self.num_classes, self.decode_head.ignore_index)

    def label_maps(self, data_samples: Sequence[SegDataSample]) -> Tensor:
        """Return the label maps (B, h, w) of the samples that ``loss`` gets."""
        return torch.cat([sample.gt_sem_seg.data for sample in data_samples])
