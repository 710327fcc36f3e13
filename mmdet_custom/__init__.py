"""Detection: ViT-Adapter backbones and detectors that add the reducer's losses. Importing registers everything."""

from .backbones import ViTAdapter, ViTBaseline
from .detectors import PrunedCascadeRCNN, PrunedFasterRCNN, PrunedMaskRCNN
from .reproducible import GlobalMeanMaskHead, SeededSampler

__all__ = ["GlobalMeanMaskHead", "PrunedCascadeRCNN", "PrunedFasterRCNN", "PrunedMaskRCNN",
           "SeededSampler", "ViTAdapter", "ViTBaseline"]
