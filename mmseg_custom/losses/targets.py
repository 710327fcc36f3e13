"""The targets of class queries, computed once per training step for all heads.

Shapes: B images, h x w pixels, K classes, M pairs of an image and a class that is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.dist import all_reduce, get_world_size
from mmseg.structures import SegDataSample
from torch import Tensor

from mmcv_custom.errors import DataError


@dataclass(frozen=True)
class Targets:
    """Label maps of a batch and the classes in each.

    Attributes:
        labels: (B, h, w) int64.
        ignore_index: label of pixels without a class.
        present: (B, K) bool, which classes are in each image.
        pairs: (M, 2) image and class of each True in ``present``.
        number: () M averaged over the processes of distributed training, at least 1.
    """

    labels: Tensor
    ignore_index: int
    present: Tensor
    pairs: Tensor
    number: Tensor

    @classmethod
    def of(cls, labels: Tensor, num_classes: int, ignore_index: int = 255) -> Targets:
        """Compute the targets of label maps (B, h, w).

        Raises:
            DataError: a label is neither a class nor ``ignore_index``.
        """
        labels = labels.long()
        named = labels != ignore_index
        if (strange := labels[named & ((labels < 0) | (labels >= num_classes))]).numel():
            raise DataError(
                f"label {strange[0].item()} is no class: labels go from 0 to {num_classes - 1}, and "
                f"{ignore_index} is ignored; check num_classes and reduce_zero_label"
            )
        seen = torch.zeros(len(labels), num_classes + 1, dtype=torch.bool, device=labels.device)
        present = seen.scatter(1, labels.masked_fill(~named, num_classes).flatten(1), True)[:, :-1]
        pairs = present.nonzero()
        number = torch.tensor(float(len(pairs)), device=labels.device)
        all_reduce(number)
        return cls(labels, ignore_index, present, pairs, (number / get_world_size()).clamp(min=1))

    @classmethod
    def of_samples(cls, samples: Sequence[SegDataSample], num_classes: int, ignore_index: int = 255) -> Targets:
        """Compute the targets of samples with label maps (1, h, w).

        Raises:
            DataError: as in ``of``, or the maps have different sizes.
        """
        maps = [sample.gt_sem_seg.data for sample in samples]
        sizes = sorted({tuple(m.shape[-2:]) for m in maps})
        if len(sizes) > 1:
            raise DataError(f"label maps of one batch have the sizes {sizes}: pad or crop them to one size")
        return cls.of(torch.cat(maps), num_classes, ignore_index)
