"""Numbers from shares: the form for symbols gives the same as Python's own functions."""

import math

import pytest

from token_pruning import rounding


@pytest.mark.parametrize("share", [0.5, 0.25, 0.125, 1 / 3, 0.7, 0.1, 0.9125, 1.0])
def test_symbols_round_as_numbers_do(share):
    for n in range(5000):  # a half and a quarter are often half-way between two numbers
        x = share * n
        assert rounding._rounded(x) == rounding.rounded(x) == round(x)
        assert rounding._ceiled(x) == rounding.ceiled(x) == math.ceil(x)
