"""Reading label maps, with one sentence for those that do not fit.

Shapes: label maps (h, w) uint8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS

from mmcv_custom.data.checks.label_maps import check_labels
from mmcv_custom.errors import DataError


@TRANSFORMS.register_module()
class LoadSegAnnotations(LoadAnnotations):
    """mmseg's loader, which checks what it loaded: mmseg would crop image and labels alike whatever their sizes, and
    a label outside the classes ends training on a GPU with a message about the device.

    Args:
        num_classes: of the data set; labels are 0 to ``num_classes - 1``, or 255 where a pixel is ignored.
        merge: what the labels 0, 1, ... of the files become, to make one class of several; labels after the last stay.
        loader: arguments of mmseg's loader.
    """

    def __init__(self, num_classes: int, merge: Sequence[int] = (), **loader) -> None:
        super().__init__(**loader)
        self.num_classes = num_classes
        self.becomes = np.arange(256, dtype=np.uint8)
        self.becomes[: len(merge)] = merge

    def transform(self, results: dict) -> dict:
        """``results['seg_map_path']`` read into ``results['gt_seg_map']`` (h, w).

        Raises DataError for a map that is missing or broken, of another size than the image, or with other labels.
        """
        path = results["seg_map_path"]
        try:
            results = super().transform(results)
        except FileNotFoundError:
            raise DataError(f"label map {path} does not exist: check data_root and data_prefix") from None
        except OSError as error:
            raise DataError(f"label map {path} cannot be read ({error}): save it again or take it out") from None
        labels, shape = self.becomes[results["gt_seg_map"]], tuple(results["ori_shape"][:2])
        if labels.ndim < 2 and labels.size == shape[0] * shape[1]:  # mmseg squeezes maps one pixel high or wide
            labels = labels.reshape(shape)
        results["gt_seg_map"] = labels
        check_labels(path, labels, results["ori_shape"], self.num_classes)
        return results
