"""Synthetic images for measurements and tests without files.

Shapes: h x w pixels, n objects.
"""

from __future__ import annotations

import numpy as np
from torch import nn

OBJECTS = 8
DETECTION = (800, 1344)  # pixels: what most COCO images are resized and padded to


def default_shape(model: nn.Module) -> tuple[int, int]:
    """Return (h, w) that suits a model: the size it was made for, its window, or its padding; else a detector's."""
    made_for = getattr(getattr(model.backbone, "patch_embed", None), "img_size", None)
    window = (getattr(model, "test_cfg", None) or {}).get("crop_size")
    size = made_for or window or getattr(model.data_preprocessor, "size", None)
    return tuple(size) if size else DETECTION


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Draw striped ellipses on a background of sky and ground: (h, w, 3) uint8, deterministic."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    image = np.stack([60 + 140 * y / height, 100 + 60 * x / width, 210 - 150 * (y > 0.6 * height)], axis=2)
    random = np.random.default_rng(seed)
    for box in objects(height, width, seed):
        colour, wave = random.uniform(0, 255, 3), random.uniform(4, 30)
        centre, radius = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        mask = ((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2 <= 1
        image[mask] = (0.8 * colour + 50 * (np.sin((x + y) / wave) > 0)[..., None])[mask]
    return image.clip(0, 255).astype(np.uint8)


def objects(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return the boxes (n, 4) of the ellipses, x1, y1, x2, y2 inside the image, from large to small."""
    random = np.random.default_rng(seed)
    side = np.geomspace(0.5, 0.05, OBJECTS)[:, None] * random.uniform(0.7, 1.4, (OBJECTS, 2)) * (width, height)
    corner = random.uniform(0, 1, (OBJECTS, 2)) * ((width, height) - side)
    return np.concatenate([corner, corner + side], axis=1)
