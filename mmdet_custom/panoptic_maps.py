"""Maps of segments in COCO's panoptic format, read without the package ``panopticapi``, which no index has.

Shapes: h x w pixels.
"""

from __future__ import annotations

from pathlib import Path

import mmcv
import numpy as np
from mmdet.datasets.transforms import LoadAnnotations, LoadPanopticAnnotations
from mmdet.registry import TRANSFORMS

from mmcv_custom.errors import DataError


def read_ids(path: Path) -> np.ndarray:
    """Return the ids (h, w) of a map of segments, in COCO's colours: R + 256 G + 65536 B.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return ids_of(mmcv.imread(str(path), channel_order="rgb", backend="pillow"))
    except OSError as error:
        raise DataError(f"the map of segments {path} cannot be read ({error})") from None


def ids_of(colours: np.ndarray) -> np.ndarray:
    """Return the ids (h, w) of colours (h, w, 3), R + 256 G + 65536 B."""
    return colours.astype(np.int64) @ np.array([1, 256, 65536])


def colours_of(ids: np.ndarray) -> np.ndarray:
    """Return the colours (h, w, 3) uint8 of ids (h, w)."""
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


# In the place of mmdet's: its configs and transforms name this one.
@TRANSFORMS.register_module(name="LoadPanopticAnnotations", force=True)
class LoadPanopticSegments(LoadPanopticAnnotations):
    """mmdet's transform of that name, whose constructor asks for ``panopticapi``."""

    def __init__(
        self,
        with_bbox: bool = True,
        with_label: bool = True,
        with_mask: bool = True,
        with_seg: bool = True,
        box_type: str = "hbox",
        imdecode_backend: str = "cv2",
        backend_args: dict | None = None,
    ) -> None:
        LoadAnnotations.__init__(
            self,
            with_bbox=with_bbox,
            with_label=with_label,
            with_mask=with_mask,
            with_seg=with_seg,
            with_keypoints=False,
            box_type=box_type,
            imdecode_backend=imdecode_backend,
            backend_args=backend_args,
        )
        self.rgb2id = ids_of
