"""Loading of label maps, with a clear error for each that does not fit.

Shapes: label maps (h, w) uint8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmseg.datasets.transforms import LoadAnnotations as _LoadAnnotations
from mmseg.registry import TRANSFORMS

from mmcv_custom.data.checks.label_maps import IGNORED, check_labels
from mmcv_custom.errors import DataError


# Under mmseg's own name, because its inferencer takes this step out by name; and under its former one, which configs
# may hold.
@TRANSFORMS.register_module(name=["LoadAnnotations", "LoadSegAnnotations"], force=True)
class LoadAnnotations(_LoadAnnotations):
    """mmseg's step that loads label maps, with a check of what it loaded.

    mmseg would crop image and labels alike even if their sizes differ, and a label outside the classes would end
    training on a GPU with a device-side assertion.

    Args:
        num_classes: of the data set; labels are 0 to ``num_classes - 1``, or 255 where a pixel is ignored. None, as in
            configs of mmseg: only their size is checked here.
        merge: new labels for the labels 0, 1, ... of the files, to merge classes; later labels stay as they are.
        loader: arguments of mmseg's step.
    """

    def __init__(self, num_classes: int | None = None, merge: Sequence[int] = (), **loader) -> None:
        super().__init__(**loader)
        self.num_classes = IGNORED if num_classes is None else num_classes
        self.becomes = np.arange(256, dtype=np.uint8)
        self.becomes[: len(merge)] = merge

    def transform(self, results: dict) -> dict:
        """Load ``results['seg_map_path']`` into ``results['gt_seg_map']`` (h, w).

        Raises:
            DataError: the map is missing or broken, has another size than the image, or has other labels.
        """
        path = results["seg_map_path"]
        try:
            results = super().transform(results)
        except FileNotFoundError:
            raise DataError(f"label map {path} does not exist: check data_root and data_prefix") from None
        except OSError as error:
            raise DataError(
                f"label map {path} cannot be read ({error}): replace it or remove it from the data set"
            ) from None
        labels, shape = self.becomes[results["gt_seg_map"]], tuple(results["ori_shape"][:2])
        if (
            labels.ndim < 2 and labels.size == shape[0] * shape[1]
        ):  # mmseg squeezes maps that are one pixel high or wide
            labels = labels.reshape(shape)
        results["gt_seg_map"] = labels
        check_labels(path, labels, results["ori_shape"], self.num_classes)
        return results
