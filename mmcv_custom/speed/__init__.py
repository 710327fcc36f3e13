"""Measuring models in turns: what speed_test.py, get_flops.py, plot_tradeoff.py and calibrate.py stand on."""

from ..launch import check_device
from .loaded import PARTS, PRECISIONS, Case, Loaded, Setting
from .subject import Subject, counted, measure
from .table import notes, table, write_csv

__all__ = ["PARTS", "PRECISIONS", "Case", "Loaded", "Setting", "Subject", "check_device", "counted", "measure",
           "notes", "table", "write_csv"]
