"""One reader of COCO-format files for mmdet's data sets and metrics.

mmdet reads these files with pycocotools, which needs every field, fails on a byte order mark, and scores an object
whose annotation has id 0 as missed.
"""

from __future__ import annotations

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation.metrics import coco_metric

from mmcv_custom.data.coco_file import complete, read_coco


class CompletedCOCO(COCO):
    """mmdet's index of an annotation file, over content that ``mmcv_custom.data.coco_file`` reads and completes."""

    def __init__(self, annotation_file: str | None = None) -> None:
        super().__init__()
        if annotation_file is not None:
            self.dataset = complete(read_coco(annotation_file))
            self.createIndex()
            self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs


# Here rather than in registered subclasses, so that mmdet's other data sets and metrics of this format have it too.
CocoDataset.COCOAPI = CompletedCOCO
coco_metric.COCO = CompletedCOCO
