"""Messages of the toolboxes about optional packages that this project does not use, left out.

Importing this module drops the debug messages that MMEngine prints where there is no logger yet ("Could not import
OneDL"), those about the deprecated file client of MMEngine's own hooks, and mmdet's warning that it cannot compute
metrics by faster_coco_eval.
"""

from __future__ import annotations

import logging
import warnings

import mmengine.fileio.file_client
import mmengine.logging

_print_log = mmengine.logging.print_log


def print_log(msg: object, logger: object = None, level: int = logging.INFO) -> None:
    """Log or print as MMEngine does, without printing debug messages."""
    if logger is not None or level > logging.DEBUG:
        _print_log(msg, logger, level)


mmengine.logging.print_log = print_log
mmengine.fileio.file_client.print_log = lambda *_, **__: None
warnings.filterwarnings("ignore", message="faster_coco_eval is not installed")
