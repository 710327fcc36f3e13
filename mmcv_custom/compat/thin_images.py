"""Resizing of images of a few pixels' width, which MMCV rounds to a width of 0, where OpenCV fails without a name.

Importing this module makes every resizing that keeps the aspect ratio leave at least one pixel to each side, whether of
an image, a label map or masks.
"""

from __future__ import annotations

from mmcv.image import geometric

_scaled = geometric._scale_size


def scaled_size(size: tuple[int, int], scale: float | tuple[float, float]) -> tuple[int, int]:
    """Return a size (w, h) times ``scale``, at least 1 x 1."""
    width, height = _scaled(size, scale)
    return max(width, 1), max(height, 1)


geometric._scale_size = scaled_size
