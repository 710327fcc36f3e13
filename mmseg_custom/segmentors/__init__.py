"""Segmentors, registered in mmseg."""

from .dtop import DToPSegmentor
from .eomt import EoMTSegmentor
from .pruned import PrunedEncoderDecoder

__all__ = ["DToPSegmentor", "EoMTSegmentor", "PrunedEncoderDecoder"]
