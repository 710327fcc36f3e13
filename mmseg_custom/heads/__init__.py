"""Heads, registered in mmseg."""

from .eomt import EoMTSemanticHead
from .linear import LinearHead
from .mlp import MLPHead
from .multi_stage import ATMHead, ATMHeadV2, ATMSingleHeadV2
from .probe import ProbeHead
from .segvit import SegViTHead
from .stages import StageOutput, scatter
from .token_head import TokenHead

__all__ = [
    "ATMHead",
    "ATMHeadV2",
    "ATMSingleHeadV2",
    "EoMTSemanticHead",
    "LinearHead",
    "MLPHead",
    "ProbeHead",
    "SegViTHead",
    "TokenHead",
    "StageOutput",
    "scatter",
]
