"""Labels for synthetic images, as the loading steps of each task provide them; for training steps that are timed.

Shapes: h x w pixels.
"""

from __future__ import annotations

import numpy as np

from .synthetic import objects


def instances(height: int, width: int) -> dict:
    """Return boxes and polygon masks of the objects of a synthetic scene, all of class 0."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return dict(
        instances=[
            dict(
                bbox=box.tolist(),
                bbox_label=0,
                ignore_flag=0,
                mask=[((box[:2] + box[2:]) / 2 + circle * (box[2:] - box[:2]) / 2).ravel().tolist()],
            )
            for box in objects(height, width)
        ]
    )


def segments(height: int, width: int) -> dict:
    """Return ``instances``, and a label map without stuff."""
    return dict(instances(height, width), **label_map(height, width))


def label_map(height: int, width: int) -> dict:
    """Return a label map (h, w) of class 0."""
    return dict(gt_seg_map=np.zeros((height, width), np.uint8), seg_fields=["gt_seg_map"])


def class_label(height: int, width: int) -> dict:
    """Return class 0."""
    return dict(gt_label=0)
