"""Segmentation: the plain ViT backbone and segmentors that add the reducer's losses. Importing registers everything."""

from .backbones import PlainViTBackbone
from .dump import DumpSegResults
from .loading import LoadSegAnnotations
from .segmentors import PrunedEncoderDecoder

__all__ = ["DumpSegResults", "LoadSegAnnotations", "PlainViTBackbone", "PrunedEncoderDecoder"]
