"""Check of the options of a config against the annotations of the constructor that takes them.

A text in place of a number would fail somewhere inside of the constructor, or later in a forward, with a sentence that
names neither the option nor what to write. Ranges are checked by the constructors themselves.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from numbers import Integral, Real
from typing import Any, Union, get_args, get_origin, get_type_hints

from .errors import SettingError

LIMIT = 2**62  # sizes and seeds have 64 bits
_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "True or False", types.NoneType: "None"}


def check_option_types(function: Callable, options: Mapping[str, Any], what: str) -> None:
    """Check options by name; what the annotations do not tell is taken.

    Args:
        function: what takes the options, such as a class.
        options: name -> value.
        what: what has the options, for the message ("reducer ToMe").

    Raises:
        SettingError: an option has a value of another type, NaN, or a number of ``LIMIT`` or more.
    """
    hints = _hints(getattr(function, "__init__") if isinstance(function, type) else function)  # noqa: B009 for mypy
    for name, value in options.items():
        large = isinstance(value, (int, float)) and LIMIT <= abs(value) != math.inf
        if name in hints and (large or not _fits(value, hints[name])):
            shown = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:60]}..."
            wanted = "less than 2^62" if large else _words(hints[name])
            raise SettingError(f"{what}: {name} is {shown} and must be {wanted}")


@cache
def _hints(function: Callable) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except NameError:  # of a name that only type checkers import
        return {}


def _kinds(hint: Any) -> tuple:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    return any(_is(value, kind) for kind in _kinds(hint))


def _is(value: Any, kind: Any) -> bool:
    if kind is bool:
        return value in (True, False) if isinstance(value, Integral) else False
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)
    if get_origin(kind) is Sequence:
        entries = value.tolist() if hasattr(value, "tolist") else value
        single = isinstance(entries, (str, bytes)) or not isinstance(entries, Sequence)
        return not single and all(_fits(entry, get_args(kind)[0]) for entry in entries)
    if kind in (str, dict, types.NoneType):
        return isinstance(value, kind)
    return not isinstance(value, (str, Real)) if isinstance(kind, type) else True


def _words(hint: Any) -> str:
    return " or ".join(dict.fromkeys(_word(kind) for kind in _kinds(hint)))


def _word(kind: Any) -> str:
    if get_origin(kind) is Sequence:
        return f"a list, each entry {_words(get_args(kind)[0])}"
    return str(_WORDS.get(kind) or ("dict(...)" if kind is dict else getattr(kind, "__name__", kind)))
