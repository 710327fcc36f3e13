"""Checks of data sets before a run starts."""

from .datasets import check_datasets

__all__ = ["check_datasets"]
