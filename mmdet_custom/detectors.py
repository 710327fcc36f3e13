"""Detectors that train their backbone's reducer: any mmdet detector by one mix-in (``mmcv_custom.reducer_losses``)."""

from __future__ import annotations

from mmdet.models.detectors import CascadeRCNN, FasterRCNN, MaskRCNN
from mmdet.registry import MODELS

from mmcv_custom.reducer_losses import ReducerLosses


@MODELS.register_module()
class PrunedMaskRCNN(ReducerLosses, MaskRCNN):
    """Mask R-CNN whose backbone may have a reducer."""


@MODELS.register_module()
class PrunedFasterRCNN(ReducerLosses, FasterRCNN):
    """Faster R-CNN whose backbone may have a reducer."""


@MODELS.register_module()
class PrunedCascadeRCNN(ReducerLosses, CascadeRCNN):
    """Cascade (Mask) R-CNN whose backbone may have a reducer."""
