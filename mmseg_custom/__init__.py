"""Segmentation in mmseg: plain ViT backbones, SegViT's heads and loss, DToP, test-time augmentation.

Importing the package registers everything.
"""

import mmcv_custom  # noqa: F401  must be first, see mmcv_custom.compat
from mmcv_custom.models.multi_stage_vit import PlainViTBackbone

from .backbones import StagedViT
from .dump import DumpSegResults
from .heads import ATMHead, ATMHeadV2, ATMSingleHeadV2, EoMTSemanticHead, LinearHead, MLPHead, ProbeHead, SegViTHead
from .loading import LoadAnnotations
from .losses import ATMLoss
from .preprocessor import SegPreprocessor
from .segmentors import DToPSegmentor, EoMTSegmentor, PrunedEncoderDecoder
from .tta import MeanTTAModel

__all__ = [
    "ATMHead",
    "ATMHeadV2",
    "ATMLoss",
    "ATMSingleHeadV2",
    "DToPSegmentor",
    "DumpSegResults",
    "EoMTSegmentor",
    "EoMTSemanticHead",
    "LinearHead",
    "LoadAnnotations",
    "MLPHead",
    "MeanTTAModel",
    "PlainViTBackbone",
    "ProbeHead",
    "PrunedEncoderDecoder",
    "SegPreprocessor",
    "SegViTHead",
    "StagedViT",
]
