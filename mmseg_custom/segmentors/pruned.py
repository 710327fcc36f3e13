"""Segmentors that train their backbone's reducer: any of mmseg's by one mix-in (``mmcv_custom.reducer_losses``).

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from mmcv_custom.reducer_losses import ReducerLosses
from token_pruning.auxiliary import Criterion, token_labels


class TokenCriterion(ReducerLosses):
    """Auxiliary heads learn the label of each patch: its first pixel's, which is what nearest resampling takes."""

    def criterion(self, data_samples: Sequence[SegDataSample]) -> Criterion:
        labels, patch = self.label_maps(data_samples), self.backbone.patch_embed.patch_size[0]
        return token_labels(labels[:, ::patch, ::patch].long(), self.num_classes, self.decode_head.ignore_index)

    def label_maps(self, data_samples: Sequence[SegDataSample]) -> Tensor:
        """(B, h, w)."""
        return torch.cat([sample.gt_sem_seg.data for sample in data_samples])


@MODELS.register_module()
class PrunedEncoderDecoder(TokenCriterion, EncoderDecoder):
    """Encoder-decoder, whole or sliding, whose backbone may have a reducer."""
