"""Detectors that train their backbone's reducer: any mmdet detector by one mix-in."""

from __future__ import annotations

from mmdet.models.detectors import CascadeRCNN, FasterRCNN, MaskRCNN
from mmdet.registry import MODELS
from torch import Tensor

from token_pruning import collect_losses


class ReducerLosses:
    """Mix-in in front of a detector: adds what the reducer reports (ratio loss, kept fraction of each block) to its
    training losses. ``@MODELS.register_module() class PrunedATSS(ReducerLosses, ATSS): ...`` is all another detector
    needs."""

    def loss(self, batch_inputs: Tensor, batch_data_samples: list) -> dict:
        with collect_losses() as reported:
            losses = super().loss(batch_inputs, batch_data_samples)
        return {**losses, **reported}


@MODELS.register_module()
class PrunedMaskRCNN(ReducerLosses, MaskRCNN):
    """Mask R-CNN whose backbone may have a reducer."""


@MODELS.register_module()
class PrunedFasterRCNN(ReducerLosses, FasterRCNN):
    """Faster R-CNN whose backbone may have a reducer."""


@MODELS.register_module()
class PrunedCascadeRCNN(ReducerLosses, CascadeRCNN):
    """Cascade (Mask) R-CNN whose backbone may have a reducer."""
