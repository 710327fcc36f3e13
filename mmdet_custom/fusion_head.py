"""Panoptic segments with their scores.

Shapes: Q queries, K classes, h x w pixels.
"""

from __future__ import annotations

import torch
from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead
from mmdet.registry import MODELS
from mmdet.structures import INSTANCE_OFFSET
from mmengine.structures import PixelData
from torch import Tensor

from .predictions import from_single

LOOKED_AT = 256  # pixels of a segment that several queries could have made


# In the place of mmdet's: its configs name this one.
@MODELS.register_module(name="MaskFormerFusionHead", force=True)
class ScoredFusionHead(MaskFormerFusionHead):
    """mmdet's head of that name, in single precision; its panoptic results also say how sure each segment is."""

    predict = from_single(MaskFormerFusionHead.predict)

    def panoptic_postprocess(self, mask_cls: Tensor, mask_pred: Tensor) -> PixelData:
        """Return mmdet's segments (1, h, w), and as ``scores`` the number of each segment with its score.

        The score is the probability of the class by the query that made the segment; of stuff that several queries
        made, by the one with most of it.

        Args:
            mask_cls: (Q, K + 1) logits.
            mask_pred: (Q, h, w) logits.
        """
        found = super().panoptic_postprocess(mask_cls, mask_pred)
        sure, labels = mask_cls.softmax(-1).max(-1)
        kept = sure > self.test_cfg.get("object_mask_thr", 0.8)
        segments, scores = found.sem_seg.flatten(), {}
        for number in segments.unique().tolist():
            label = number % INSTANCE_OFFSET
            if label == self.num_classes:  # of no segment
                continue
            able = torch.nonzero(kept & (labels == label))[:, 0]
            if len(able) > 1:
                pixels = torch.nonzero(segments == number)[:, 0]
                pixels = pixels[:: max(1, len(pixels) // LOOKED_AT)]
                masks = mask_pred.flatten(1)[able][:, pixels].sigmoid()
                able = able[(sure[able, None] * masks).argmax(0).mode().values[None]]
            scores[number] = sure[able].item()
        found.set_metainfo(dict(scores=scores))
        return found
