"""Ending quietly when the reader of the output has left, as in `token-pruning configs | head`."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ending_with_the_reader() -> Iterator[None]:
    """End the program with a shell's exit code of SIGPIPE, and no traceback, once nobody reads its output.

    SIGPIPE itself stays ignored: it would also end the web page and a process group when another side closes a socket.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_has_left():  # it is another pipe: a bug
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
        sys.exit(128 + signal.SIGPIPE)


def _reader_has_left() -> bool:
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
    except io.UnsupportedOperation:  # captured
        return False
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
