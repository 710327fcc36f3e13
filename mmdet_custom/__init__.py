"""Detection in mmdet: ViT-Adapter backbones, ViTDet's neck, detectors that train a reducer.

Importing the package registers everything.
"""

import mmcv_custom  # noqa: F401  must be first, see mmcv_custom.compat

from . import (  # noqa: F401  they change what mmdet and MMCV do
    coco,
    deformable_attention,
    fusion_head,
    nms,
    panoptic_maps,
    predictions,
    roi_align,
    visualizer,
)
from .backbones import ViTAdapter, ViTBaseline
from .detectors import PrunedCascadeRCNN, PrunedDetector, PrunedFasterRCNN, PrunedMask2Former, PrunedMaskRCNN
from .eomt import EoMTDetector
from .evaluation import PanopticQuality
from .heads import EoMTPanopticHead
from .necks import SimpleFeaturePyramid
from .reproducible import GlobalMeanMaskHead, SeededSampler

__all__ = [
    "EoMTDetector",
    "EoMTPanopticHead",
    "GlobalMeanMaskHead",
    "PanopticQuality",
    "PrunedCascadeRCNN",
    "PrunedDetector",
    "PrunedFasterRCNN",
    "PrunedMask2Former",
    "PrunedMaskRCNN",
    "SeededSampler",
    "SimpleFeaturePyramid",
    "ViTAdapter",
    "ViTBaseline",
]
