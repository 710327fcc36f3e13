"""Token-reduction methods, one file each; importing this package registers them all."""

from .apt import APT
from .ats import ATS
from .cropr import Cropr
from .cubist_merge import CubistMerge
from .dtop import DToP
from .dynamic_vit import DynamicViT
from .evit import EViT
from .evo_vit import EvoViT
from .ppt import PPT
from .random import Random
from .svit import SViT
from .tome import ToMe

__all__ = [
    "APT",
    "ATS",
    "Cropr",
    "CubistMerge",
    "DToP",
    "DynamicViT",
    "EViT",
    "EvoViT",
    "PPT",
    "Random",
    "SViT",
    "ToMe",
]
