"""Test-time augmentation: one prediction from several views of an image (flipped, at other scales).

Shapes: K classes, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from mmseg.models import SegTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor


@MODELS.register_module()
class MeanTTAModel(SegTTAModel):
    """mmseg's, with three differences.

    - Heads that give scores (SegViT's: presence times mask, 0 to 1) have them averaged as they are. mmseg takes the
      softmax over the classes of whatever a head gives, which is right for logits and blurs scores.
    - Views are added up as they come. mmseg first collects the maps of all: twelve views of 150 classes of one image
      of 2000 x 3000 pixels are 43 GB.
    - ``seg_logits`` of the result is the mean, not what the last view had.

    Args:
        average: "scores": as above; "softmax": mmseg's softmax first, whatever the head gives, as DToP was published.
        model: arguments of mmseg's model.

    Raises:
        ValueError: another word for ``average``.
    """

    def __init__(self, average: str = "scores", **model) -> None:
        super().__init__(**model)
        if average not in ("scores", "softmax"):
            raise ValueError(f"average is {average!r}; choose 'scores' or 'softmax'")
        self.average = average

    def test_step(self, data: dict[str, list]) -> list[SegDataSample]:
        """``data``: lists by view of what the segmentor's own ``test_step`` takes -> one sample of each image."""
        views = range(len(data["inputs"]))
        return self.merge_preds(self.module.test_step({name: data[name][i] for name in data}) for i in views)

    def merge_preds(self, views: Iterable[list[SegDataSample]]) -> list[SegDataSample]:
        """Of each view the samples of all images -> one sample of each image: the first view's, with the mean."""
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
        """What is averaged of what a segmentor gives (K, h, w), single precision."""
        # mmseg's segmentors have taken the sigmoid of a single class already.
        ready = self.module.out_channels == 1 or (
            self.average == "scores" and getattr(self.module.decode_head, "gives_scores", False)
        )
        return given.float() if ready else given.float().softmax(0)

    def labels(self, scores: Tensor) -> Tensor:
        """(1, h, w) of mean scores (K, h, w)."""
        if self.module.out_channels == 1:
            return (scores > self.module.decode_head.threshold).to(torch.int64)
        return scores.argmax(0, keepdim=True)
