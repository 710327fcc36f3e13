"""Token-reduction methods, one file each; importing this package registers them all."""

from .algm import ALGM
from .apt import APT
from .ats import ATS
from .cropr import Cropr
from .cubist_merge import CubistMerge
from .dtop import DToP
from .dynamic_vit import DynamicViT
from .evit import EViT
from .evo_vit import EvoViT
from .mpm import MPM
from .pitome import PiToMe
from .ppt import PPT
from .random import Random
from .svit import SViT
from .tome import ToMe

__all__ = [
    "ALGM",
    "APT",
    "ATS",
    "Cropr",
    "CubistMerge",
    "MPM",
    "DToP",
    "DynamicViT",
    "EViT",
    "EvoViT",
    "PPT",
    "PiToMe",
    "Random",
    "SViT",
    "ToMe",
]
