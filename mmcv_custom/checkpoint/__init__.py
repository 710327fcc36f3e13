"""Reading checkpoints and loading them into models, whatever published names they carry."""

from .io import read_checkpoint
from .load import LoadReport, load_into

__all__ = ["LoadReport", "load_into", "read_checkpoint"]
