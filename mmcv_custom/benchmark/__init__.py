"""Interleaved measurements of models, used by speed_test.py, get_flops.py, plot_tradeoff.py and calibrate.py."""

from ..cli.launch import check_device
from .case import PARTS, PRECISIONS, BenchmarkCase, BenchmarkModel, BenchmarkSettings
from .report import notes, table, write_csv
from .session import BenchmarkSession, counted, measure

__all__ = [
    "PARTS",
    "PRECISIONS",
    "BenchmarkCase",
    "BenchmarkModel",
    "BenchmarkSettings",
    "BenchmarkSession",
    "check_device",
    "counted",
    "measure",
    "notes",
    "table",
    "write_csv",
]
