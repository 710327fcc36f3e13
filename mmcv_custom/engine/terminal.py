"""What of a run's log the terminal shows: what a person reads; all of it is in the log file."""

from __future__ import annotations

import logging
import sys
from functools import partial

from ..files import out_of_space

# Beginnings of MMEngine's messages with the machine, the whole config, all hooks, and a line for each parameter.
LONG = (
    "\n---",
    "Config:\n",
    "Hooks will be executed",
    "Name of parameter",
    "paramwise_options --",
    "Distributed training is not used, all SyncBatchNorm",
    "Exp name: ",
)


class ForPeople(logging.Filter):
    """Drop messages that only a log file needs."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the terminal shows a message; warnings are always shown."""
        return record.levelno > logging.INFO or not record.getMessage().startswith(LONG)


def quieten(logger: logging.Logger) -> str | None:
    """Show on the terminal only what people read, and return the log file that holds everything, if there is one.

    A line that nobody reads (``train.py CONFIG | head``) or that a full disk has no space for raises OSError; logging
    would print a traceback for each.
    """
    files = [h.baseFilename for h in logger.handlers if isinstance(h, logging.FileHandler)]
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.handleError = partial(_raise_if_lost, handler)
    if files:  # without a file, the terminal is the only place
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler and not any(isinstance(f, ForPeople) for f in handler.filters):
                handler.addFilter(ForPeople())
    return files[0] if files else None


def _raise_if_lost(handler: logging.StreamHandler, record: logging.LogRecord) -> None:
    error = sys.exc_info()[1]
    if isinstance(error, BrokenPipeError) or out_of_space(error):
        raise
    type(handler).handleError(handler, record)
