"""EoMT's head for panoptic and instance segmentation."""

from __future__ import annotations

from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.registry import MODELS

from mmcv_custom.models.eomt_head import EoMTCriterion


@MODELS.register_module()
class EoMTPanopticHead(EoMTCriterion, Mask2FormerHead):
    """Masks and classes of queries, trained on objects and, for panoptic data, on stuff; see ``EoMTCriterion``.

    Args:
        in_channels: C of the encoder.
        num_things_classes: classes of objects.
        num_stuff_classes: other classes; 0 for instance segmentation.
        num_queries: Q, as many as the encoder has.
        patch_size: of the encoder.
        num_points: points at which masks are compared.
        train_cfg, test_cfg: of the detector.
    """

    def __init__(
        self,
        in_channels: int,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        num_queries: int = 200,
        patch_size: int = 16,
        num_points: int = 12544,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
    ) -> None:
        self._set_up(
            in_channels,
            num_things_classes,
            num_stuff_classes,
            num_queries,
            patch_size,
            num_points,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
        )
