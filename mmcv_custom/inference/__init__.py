"""Prediction in two lines: ``Predictor(config, checkpoint)(image)`` gives what the model found and which tokens it
computed."""

from .predictor import Predictor
from .results import Classification, Detection, Result, Segmentation
from .token_view import TokenView, Window

__all__ = ["Classification", "Detection", "Predictor", "Result", "Segmentation", "TokenView", "Window"]
