"""Token-reduction methods, one file each; importing this package registers them all."""

from .algm import ALGM
from .ats import ATS
from .cropr import Cropr
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
    "ATS",
    "MPM",
    "PPT",
    "Cropr",
    "DToP",
    "DynamicViT",
    "EViT",
    "EvoViT",
    "PiToMe",
    "Random",
    "SViT",
    "ToMe",
]
