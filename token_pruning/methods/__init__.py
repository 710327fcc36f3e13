"""The methods, one file each; importing this package registers them."""

from .random import Random
from .svit import SViT

__all__ = ["Random", "SViT"]
