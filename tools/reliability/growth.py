"""The growth of a process's memory, and the models and sizes of images that memory is measured with.

Shapes: h x w pixels of an image.
"""

import re
import statistics
from pathlib import Path

import numpy as np

from mmcv_custom.errors import ConfigError

MODELS = {
    "detector": "configs/quickstart/digits_svit-adapter-nano.py",
    "segmentor": "configs/segmentation/vit-nano-tome_linear_camvid-352.py",
    "classifier": "configs/deit/digits/svit_deit-nano_digits.py",
}
SIDES = (128, 256)  # pixels; at most two to one, so that every grid has the tokens that the methods remove


def sizes(count: int, seed: int = 0) -> list[tuple[int, int]]:
    """Return ``count`` different sizes (h, w) in random order, deterministic."""
    span = SIDES[1] - SIDES[0]
    places = np.random.default_rng(seed).permutation(span * span)[:count]
    return [(int(SIDES[0] + place // span), int(SIDES[0] + place % span)) for place in places]


def private_mb(process: int | str = "self") -> float:
    """Return the memory of a process that is its own, resident or swapped out, in MB (10^6 bytes); Linux only."""
    sizes_kb = re.findall(r"^(?:RssAnon|VmSwap):\s+(\d+)", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    if not sizes_kb:
        raise ConfigError(f"/proc/{process}/status names no memory: is the process alive, and is this Linux?")
    return sum(map(int, sizes_kb)) * 1024 / 1e6


def growth(points: list[tuple[int, float]]) -> float:
    """Return the slope of (images, value) points per 1,000 images over the last two thirds."""
    late = points[len(points) // 3 :]
    slope, _ = statistics.linear_regression(*zip(*late, strict=True))
    return 1000 * slope
