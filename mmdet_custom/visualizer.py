"""mmdetection's drawings in test runs.

Shapes: h x w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmdet.registry import VISUALIZERS
from mmdet.structures import INSTANCE_OFFSET
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import PixelData


# In the place of mmdet's: its configs name this one.
@VISUALIZERS.register_module(name="DetLocalVisualizer", force=True)
class PanopticVisualizer(DetLocalVisualizer):
    """mmdet's visualizer of that name, which also draws an image in which no segment was found."""

    def _draw_panoptic_seg(
        self, image: np.ndarray, panoptic_seg: PixelData, classes: Sequence[str], palette: list | None
    ) -> np.ndarray:
        """Return the image (h, w, 3) with its segments; mmdet's method ends with an error where there are none."""
        found = np.unique(panoptic_seg.sem_seg[0]) % INSTANCE_OFFSET
        if "label_names" not in panoptic_seg and (found == len(classes)).all():
            return image
        return super()._draw_panoptic_seg(image, panoptic_seg, classes, palette)
