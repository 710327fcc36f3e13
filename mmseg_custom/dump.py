"""Dump of segmentation predictions to a file.

Shapes: label maps (1, h, w).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.evaluator import DumpResults
from mmseg.registry import METRICS


@METRICS.register_module()
class DumpSegResults(DumpResults):
    """MMEngine's ``DumpResults`` restricted to the predicted label maps, one byte per pixel.

    With the logits that a prediction also holds, a hundred images of 150 classes would fill tens of gigabytes of memory
    before anything is written.
    """

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the ``pred_sem_seg`` and the image's meta information of each prediction."""
        kept = []
        for sample in data_samples:
            sample = {k: v for k, v in sample.items() if k not in ("seg_logits", "gt_sem_seg")}
            labels = sample["pred_sem_seg"]["data"]
            sample["pred_sem_seg"] = dict(data=labels.to(torch.uint8))
            kept.append(sample)
        super().process(data_batch, kept)
