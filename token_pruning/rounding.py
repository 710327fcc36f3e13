"""Whole numbers from shares of numbers of tokens, also where these are symbols of ``torch.export``.

Of all roundings a symbol and every format have ``math.trunc`` only; ``int`` would fix the symbol's value. Numbers are
not negative.
"""

from __future__ import annotations

import math

import torch


def rounded(x: float) -> int:
    """Return ``round(x)``: half to even."""
    return _rounded(x) if isinstance(x, torch.SymFloat) else round(x)


def ceiled(x: float) -> int:
    """Return ``math.ceil(x)``."""
    return _ceiled(x) if isinstance(x, torch.SymFloat) else math.ceil(x)


def _rounded(x: float) -> int:
    halves = math.trunc(2 * x)
    whole, half = halves // 2, halves % 2
    tie = half * (1 - _more_than(2 * x, halves))
    return whole + half - tie * (1 - whole % 2)


def _ceiled(x: float) -> int:
    whole = math.trunc(x)
    return whole + _more_than(x, whole)


def _more_than(x: float, whole: int) -> int:
    """Return 1 if ``x`` is more than its ``whole`` part, else 0."""
    # Whatever follows the point is at least one part of 2 ** 52.
    return torch.sym_min(math.trunc((x - whole) * 2.0**52), 1)
