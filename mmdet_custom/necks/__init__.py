"""Necks, registered in mmdet."""

from .simple_feature_pyramid import SimpleFeaturePyramid

__all__ = ["SimpleFeaturePyramid"]
