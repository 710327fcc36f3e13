"""Export of models to files for other runtimes, and running of these files."""

from .exporting import Exported, export_model
from .formats import FORMATS, ExportedModel
from .paste import paste_masks

__all__ = ["FORMATS", "Exported", "ExportedModel", "export_model", "paste_masks"]
