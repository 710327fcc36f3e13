"""Detection: ViT-Adapter backbones, ViTDet's neck, detectors that add the reducer's losses. Importing registers all."""

import mmcv_custom  # noqa: F401  first: see mmcv_custom.compat

from .backbones import ViTAdapter, ViTBaseline
from .detectors import PrunedCascadeRCNN, PrunedDetector, PrunedFasterRCNN, PrunedMaskRCNN
from .necks import SimpleFeaturePyramid
from .reproducible import GlobalMeanMaskHead, SeededSampler

__all__ = [
    "GlobalMeanMaskHead",
    "PrunedCascadeRCNN",
    "PrunedDetector",
    "PrunedFasterRCNN",
    "PrunedMaskRCNN",
    "SeededSampler",
    "SimpleFeaturePyramid",
    "ViTAdapter",
    "ViTBaseline",
]
