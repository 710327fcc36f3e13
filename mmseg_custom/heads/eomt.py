"""EoMT's head for semantic segmentation.

Shapes: B images, h x w pixels, K classes, Q queries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads import Mask2FormerHead
from mmseg.registry import MODELS
from torch import Tensor

from mmcv_custom.models.eomt import Prediction
from mmcv_custom.models.eomt_head import EoMTCriterion


@MODELS.register_module()
class EoMTSemanticHead(EoMTCriterion, Mask2FormerHead):
    """Masks and classes of queries, trained on one mask per class and image; see ``EoMTCriterion``.

    Args:
        in_channels: C of the encoder.
        num_classes: K.
        num_queries: Q, as many as the encoder has.
        patch_size: of the encoder.
        num_points: points at which masks are compared.
        ignore_index: label of pixels that are not used.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_queries: int = 100,
        patch_size: int = 16,
        num_points: int = 12544,
        ignore_index: int = 255,
    ) -> None:
        self._set_up(in_channels, 0, num_classes, num_queries, patch_size, num_points)
        self.align_corners, self.out_channels, self.ignore_index = False, num_classes, ignore_index

    def scores(self, prediction: Prediction, size: tuple[int, int]) -> Tensor:
        """Return (B, K, h, w): the sum over queries of class probability times mask probability, at ``size`` pixels."""
        classes, masks = prediction
        masks = F.interpolate(masks.float(), size, mode="bilinear", align_corners=False).sigmoid()
        return torch.einsum("bqk,bqhw->bkhw", classes.float().softmax(-1)[..., :-1], masks)
