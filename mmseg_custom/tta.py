"""Test-time augmentation: one prediction from several views of an image (flipped, rescaled).

Shapes: K classes, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from mmseg.models import SegTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from token_pruning.errors import SettingError


@MODELS.register_module()
class MeanTTAModel(SegTTAModel):
    """mmseg's ``SegTTAModel`` with three differences.

    - Scores (SegViT heads: presence times mask, in [0, 1]) are averaged as they are. mmseg takes the softmax over the
      classes of any head's output, which is right for logits but flattens scores.
    - Views are summed one by one. mmseg first collects the maps of all views: twelve views of one image of 2000 x 3000
      pixels with 150 classes are 43 GB.
    - ``seg_logits`` of the result is the mean, not that of the last view.

    Args:
        average: "scores", as above, or "softmax": mmseg's softmax first for any head, as in published DToP.
        model: arguments of ``SegTTAModel``.

    Raises:
        SettingError: ``average`` has another value.
    """

    def __init__(self, average: str = "scores", **model) -> None:
        super().__init__(**model)
        if average not in ("scores", "softmax"):
            raise SettingError(f"average is {average!r}; choose 'scores' or 'softmax'")
        self.average = average

    def test_step(self, data: dict[str, list]) -> list[SegDataSample]:
        """Predict one sample per image; ``data`` holds, by view, lists of what the segmentor's ``test_step`` takes."""
        views = range(len(data["inputs"]))
        return self.merge_preds(self.module.test_step({name: data[name][i] for name in data}) for i in views)

    def merge_preds(self, views: Iterable[list[SegDataSample]]) -> list[SegDataSample]:
        """Merge each view's samples of all images into one sample per image: the first view's, with the mean scores."""
        merged: list[SegDataSample] = []
        for number, samples in enumerate(views, 1):
            scores = [self.scores(sample.seg_logits.data) for sample in samples]
            if number == 1:
                merged, totals = samples, scores
            else:
                totals = [total.add_(more) for total, more in zip(totals, scores, strict=True)]
        for sample, total in zip(merged, totals, strict=True):
            sample.seg_logits.data = total.div_(number)
            sample.pred_sem_seg.data = self.labels(sample.seg_logits.data)
        return merged

    def scores(self, given: Tensor) -> Tensor:
        """Return the scores to average of a segmentor's output (K, h, w), in single precision."""
        # mmseg's segmentors have already applied the sigmoid to a single class.
        ready = self.module.out_channels == 1 or (
            self.average == "scores" and getattr(self.module.decode_head, "gives_scores", False)
        )
        return given.float() if ready else given.float().softmax(0)

    def labels(self, scores: Tensor) -> Tensor:
        """Return the label map (1, h, w) of mean scores (K, h, w)."""
        if self.module.out_channels == 1:
            return (scores > self.module.decode_head.threshold).to(torch.int64)
        return scores.argmax(0, keepdim=True)
