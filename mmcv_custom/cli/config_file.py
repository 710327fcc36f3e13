"""Reading a config file; whatever is wrong in it or its bases is one sentence with file and line."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from ..errors import ConfigError
from ..shipped import find_config
from .inherited_names import pass_on_names

EXTRAS = {"mmdet": "detection", "mmseg": "segmentation", "mmpretrain": "classification"}


def read_file(path: str | os.PathLike) -> Config:
    """Read a config with its bases and import what its ``custom_imports`` names.

    A ``data_root`` or ``metainfo`` that it sets counts for everything that its bases built with theirs.

    Args:
        path: of the file, or the name of one of the project's configs (``shipped.find_config``).

    Raises:
        ConfigError: there is no such config, a file cannot be read, or running it fails, or it sets a name that nothing
            reads.
    """
    path = find_config(path)
    try:
        cfg = Config.fromfile(path, import_custom_modules=False)
    except Exception as error:  # a config is a program of the user: it may fail in any way
        raise ConfigError(_missing_toolbox(path, error) or _sentence(path, error)) from error
    pass_on_names(cfg)
    wanted = cfg.get("custom_imports")
    if wanted:
        try:
            import_modules_from_strings(**wanted)
        except (ImportError, TypeError) as error:
            raise ConfigError(
                _missing_toolbox(path, error, wanted.get("imports", ()))
                or f"custom_imports of config {path} cannot be imported ({_words(error)}): install the package, or add "
                "its folder to PYTHONPATH"
            ) from error
    return cfg


def _missing_toolbox(path: str, error: BaseException | None, imports: Sequence[str] = ()) -> str | None:
    # Segmentation imports detection, too: one extra for all of them.
    last = next((name for name in reversed(EXTRAS) if f"{name}_custom" in imports), None)
    while error is not None:
        said = re.match(r"(\w+) is not installed", str(error))
        name = said[1] if said else getattr(error, "name", None)
        if name in EXTRAS:
            extra = EXTRAS[last or name]
            return f"config {path} needs {name}, which is not installed: pip install 'token-pruning[{extra}]'"
        error = error.__cause__ or error.__context__
    return None


def _sentence(path: str, error: Exception) -> str:
    where, line, reading = path, None, {}
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "_file2dict":  # once more for each `raise` that it passes
            where = frame.f_locals.get("filename", where)
            if reading.setdefault(where, frame) is not frame:
                return f"config {where} inherits itself: its _base_ leads back to it"
        elif os.path.abspath(frame.f_code.co_filename) == os.path.abspath(where):
            line = number
    if isinstance(error, SyntaxError):
        line, reason = error.lineno, f"it is no valid Python ({error.msg})"
        with open(where, encoding="utf-8", errors="replace") as file:
            if file.read(1) == "\ufeff":
                line, reason = 1, "it begins with a byte order mark: save it as UTF-8 without one"
    elif isinstance(error, UnicodeDecodeError):
        with open(where, "rb") as file:
            line = file.read()[: error.start].count(b"\n") + 1
        reason = "it is not encoded in UTF-8: save it as UTF-8"
    elif "Duplicate key is not allowed among bases" in str(error):
        names = sorted(str(error).split("{")[-1].split("}")[0].replace("'", "").split(", "))
        reason = f"more than one of its bases sets {', '.join(names)}: set each in one base only"
    elif isinstance(error, FileNotFoundError) and not os.path.exists(where):
        return f"config {list(reading)[-2]} cannot be read: its _base_ {where} does not exist"
    elif isinstance(error, AttributeError) and where.endswith((".json", ".yaml", ".yml")):
        reason = "it must hold names with values, {...}, and holds something else"
    else:
        reason = _words(error)
    return f"config {where} cannot be read{f' (line {line})' if line else ''}: {reason}"


def _words(error: Exception) -> str:
    """Return the first sentence of an error in one line."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = " ".join(text.split(", the current sys.path")[0].split()) or type(error).__name__
    return f"there is no '{text}' where it is looked up" if isinstance(error, KeyError) and " " not in text else text
