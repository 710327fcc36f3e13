"""Losses, registered in mmseg."""

from .atm import ATMLoss
from .targets import Targets

__all__ = ["ATMLoss", "Targets"]
