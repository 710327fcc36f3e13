"""Token pruning for vision transformers: methods that select tokens, and a core that runs blocks on the selection."""

from .analysis.flops import count_flops
from .analysis.trace import PassTrace, Trace
from .apply import apply, remove
from .blocks import run_block
from .counts import Counts
from .errors import ExportError, SettingError
from .forward import StackForward
from .host import Host, find_host, require_host
from .losses import collect_losses, ratio_loss
from .methods import (
    ALGM,
    APT,
    ATS,
    MPM,
    PPT,
    Cropr,
    CubistMerge,
    DToP,
    DynamicViT,
    EViT,
    EvoViT,
    PiToMe,
    Random,
    SViT,
    ToMe,
)
from .reducer import METHODS, Decision, Reducer, build_reducer, register
from .tokens import TokenSet
from .vit import PlainViT

__all__ = [
    "ALGM",
    "APT",
    "ATS",
    "METHODS",
    "MPM",
    "PPT",
    "Counts",
    "Cropr",
    "CubistMerge",
    "DToP",
    "Decision",
    "DynamicViT",
    "EViT",
    "EvoViT",
    "ExportError",
    "Host",
    "PassTrace",
    "PiToMe",
    "PlainViT",
    "Random",
    "Reducer",
    "SViT",
    "SettingError",
    "StackForward",
    "ToMe",
    "TokenSet",
    "Trace",
    "apply",
    "build_reducer",
    "collect_losses",
    "count_flops",
    "find_host",
    "ratio_loss",
    "register",
    "remove",
    "require_host",
    "run_block",
]
