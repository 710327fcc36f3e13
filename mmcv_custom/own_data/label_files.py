"""Reading of the text files that hold labels; a file that cannot be read is one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from ..errors import DataError


def read_text(file: Path) -> str:
    """Return a text file's content, without a byte order mark.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{file} is no text in UTF-8: save it again, or take it out") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): check the path and its permissions") from None


def read_json(file: Path) -> object:
    """Return a JSON file's content.

    Raises:
        DataError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON ({error}): save it again") from None


def finite(value: object, what: str, where: object) -> float:
    """Return a value as a finite number.

    Raises:
        DataError: it is none; ``what`` and ``where`` name it.
    """
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise DataError(f"{where}: {what} is {value!r} and must be a number")
    return found


def files_with(files: Iterable[Path], *words: bytes) -> list[Path]:
    """Return those of the files that hold all of the words; what is no file that can be read is left out."""
    return [file for file in files if file.is_file() and all(word in file.read_bytes() for word in words)]
