"""Measuring models in turns: what ``speed_test.py``, ``get_flops.py`` and ``plot_tradeoff.py`` stand on."""

from .subject import PARTS, PRECISIONS, Case, Setting, Subject, counted, measure
from .table import notes, table, write_csv

__all__ = ["PARTS", "PRECISIONS", "Case", "Setting", "Subject", "counted", "measure", "notes", "table", "write_csv"]
