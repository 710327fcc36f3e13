"""Where a sliding window stands on an image.

Shapes: h x w pixels.
"""

from __future__ import annotations


def window_corners(size: tuple[int, int], crop: tuple[int, int], stride: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (y, x) of the windows that mmseg slides over an input of ``size`` (h, w), in its order.

    The order is row by row; the last window of a row or column is moved back so that it ends where the input ends.
    """
    ys, xs = (
        [max(min(step * shift, side - window), 0) for step in range(-(-max(side - window, 0) // shift) + 1)]
        for side, window, shift in zip(size, crop, stride, strict=True)
    )
    return [(y, x) for y in ys for x in xs]
