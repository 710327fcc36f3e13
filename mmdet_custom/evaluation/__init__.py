"""Metrics that mmdet has not, or only with packages that no index has."""

from .panoptic import PanopticQuality

__all__ = ["PanopticQuality"]
