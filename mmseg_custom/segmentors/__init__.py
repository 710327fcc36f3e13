"""Segmentors, registered in mmseg."""

from .dtop import DToPSegmentor
from .pruned import PrunedEncoderDecoder

__all__ = ["DToPSegmentor", "PrunedEncoderDecoder"]
