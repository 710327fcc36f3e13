"""Losses, registered in mmseg."""

from .atm import ATMLoss
from .masks import mask_losses
from .targets import Targets

__all__ = ["ATMLoss", "Targets", "mask_losses"]
