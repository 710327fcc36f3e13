"""Export of models to files for other runtimes, and running of these files."""

from .exporting import Exported, Traced, export_model, trace_model
from .formats import FORMATS, ExportedModel
from .paste import paste_masks

__all__ = ["FORMATS", "Exported", "ExportedModel", "Traced", "export_model", "paste_masks", "trace_model"]
