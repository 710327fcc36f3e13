"""Resizing of thin images, which lose no side."""

import mmcv
import numpy as np
import pytest

import mmcv_custom  # noqa: F401


@pytest.mark.parametrize(("size", "wanted"), [((2, 1500), (1, 256)), ((1500, 2), (256, 1)), ((60, 90), (171, 256))])
def test_resizing_leaves_at_least_one_pixel(size, wanted):
    assert mmcv.imrescale(np.zeros((*size, 3), np.uint8), (256, 256)).shape[:2] == wanted
    assert mmcv.rescale_size(size[::-1], (256, 256)) == wanted[::-1]
