"""Segmentation: the plain ViT backbones, SegViT's heads and loss, segmentors that add the reducer's losses, DToP.
Importing registers everything."""

from .backbones import PlainViTBackbone, StagedViT
from .dump import DumpSegResults
from .heads import ATMHead, ATMHeadV2, ATMSingleHeadV2, LinearHead, MLPHead, SegViTHead
from .loading import LoadSegAnnotations
from .losses import ATMLoss
from .segmentors import DToPSegmentor, PrunedEncoderDecoder

__all__ = ["ATMHead", "ATMHeadV2", "ATMLoss", "ATMSingleHeadV2", "DToPSegmentor", "DumpSegResults", "LinearHead",
           "LoadSegAnnotations", "MLPHead", "PlainViTBackbone", "PrunedEncoderDecoder", "SegViTHead", "StagedViT"]
