"""Detectors that train their backbone's reducer; a mix-in makes one of any mmdet detector."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.detectors import CascadeRCNN, FasterRCNN, Mask2Former, MaskFormer, MaskRCNN, RetinaNet
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from torch import nn

from mmcv_custom.models.reducer_mixin import ReducerLosses
from token_pruning.auxiliary import Criterion

from .presence import presence_criterion


class PrunedDetector(ReducerLosses):
    """Mix-in for mmdet detectors whose backbone may have a reducer.

    The reducer's auxiliary heads learn which classes are in the image or in each patch (``presence_criterion``).
    Another detector needs only ``@MODELS.register_module() class PrunedATSS(PrunedDetector, ATSS): ...``.
    """

    def criterion(self, data_samples: Sequence[DetDataSample]) -> Criterion:
        """Return the loss of the reducer's auxiliary heads."""
        return presence_criterion(data_samples, self._classes(), self.backbone.patch_embed.patch_size[0])

    def _classes(self) -> int:
        if isinstance(self, MaskFormer):
            return self.num_classes
        head = self.roi_head.bbox_head if hasattr(self, "roi_head") else self.bbox_head
        return (head[-1] if isinstance(head, nn.ModuleList) else head).num_classes  # a cascade has several


@MODELS.register_module()
class PrunedMaskRCNN(PrunedDetector, MaskRCNN):
    """Mask R-CNN whose backbone may have a reducer."""


@MODELS.register_module()
class PrunedFasterRCNN(PrunedDetector, FasterRCNN):
    """Faster R-CNN whose backbone may have a reducer."""


@MODELS.register_module()
class PrunedCascadeRCNN(PrunedDetector, CascadeRCNN):
    """Cascade (Mask) R-CNN whose backbone may have a reducer."""


@MODELS.register_module()
class PrunedRetinaNet(PrunedDetector, RetinaNet):
    """RetinaNet whose backbone may have a reducer."""


@MODELS.register_module()
class PrunedMask2Former(PrunedDetector, Mask2Former):
    """Mask2Former, instances or panoptic, whose backbone may have a reducer; auxiliary heads learn objects only."""
