"""Reading checkpoints and loading them into models, whatever published names they carry."""

from .io import find_checkpoint, read_checkpoint
from .load import LoadReport, load_into

__all__ = ["LoadReport", "find_checkpoint", "load_into", "read_checkpoint"]
