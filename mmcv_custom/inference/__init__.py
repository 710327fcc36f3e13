"""Prediction on images: ``Predictor(config, checkpoint)(image)`` returns what was found and which tokens it took."""

from .panoptic import Panoptic
from .predictor import Predictor
from .results import Classification, Detection, Result, Segmentation
from .token_view import TokenView, Window

__all__ = ["Classification", "Detection", "Panoptic", "Predictor", "Result", "Segmentation", "TokenView", "Window"]
