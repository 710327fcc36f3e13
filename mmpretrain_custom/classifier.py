"""mmpretrain's classifier around a network that includes its classification head.

Shapes: B images, h x w pixels, K classes.
"""

from __future__ import annotations

import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor

from mmcv_custom.models.reducer_mixin import ReducerLosses
from token_pruning.auxiliary import Criterion, image_labels

from .distillation import Distillation


class WholeNetworkClassifier(ImageClassifier):
    """mmpretrain's ``ImageClassifier`` whose ``backbone`` outputs the class scores itself.

    Args:
        backbone: config of a network from images (B, 3, h, w) to scores (B, K), with K as attribute ``num_classes``.
        loss: config of an mmpretrain loss on scores and labels.
        distillation: config of a ``Distillation``, or None.
        train_cfg: ``dict(augments=[...])``, batch augmentations such as Mixup.
        data_preprocessor: config of mmpretrain's preprocessor; its ``num_classes`` is the backbone's.
    """

    def __init__(
        self,
        backbone: dict,
        loss: dict | None = None,
        distillation: dict | None = None,
        train_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
    ) -> None:
        network = MODELS.build(backbone)
        data_preprocessor = dict(num_classes=network.num_classes, **(data_preprocessor or {}))
        super().__init__(
            network,
            head=dict(type="ClsHead", loss=loss or dict(type="CrossEntropyLoss")),
            train_cfg=train_cfg,
            data_preprocessor=data_preprocessor,
        )
        self.distillation: Distillation | None = MODELS.build(distillation) if distillation else None
        if self.distillation and hasattr(network, "set_distilled_training"):
            network.set_distilled_training()  # in training it then returns the scores of both heads

    def init_weights(self) -> None:
        """Load the teacher's weights; the network was initialised when it was built."""
        if self.distillation:
            self.distillation.teacher.load()

    def extract_feat(self, inputs: Tensor, stage: str = "neck") -> tuple[Tensor]:
        """Return the scores ((B, K),) of images (B, 3, h, w) for mmpretrain's heads; ``stage`` is ignored.

        In single precision at least: on CPUs autocast would take the softmax in bfloat16.
        """
        scores = self.backbone(inputs)
        return (scores.to(torch.promote_types(scores.dtype, torch.float32)),)

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Return the losses of images (B, 3, h, w) and their labels."""
        if self.distillation is None:
            return super().loss(inputs, data_samples)
        with self.distillation.recording(self.backbone) as student:
            scores = self.backbone(inputs)
        scores, second = scores if isinstance(scores, tuple) else (scores, scores)
        base = self.head.loss((scores,), data_samples)["loss"]
        return self.distillation.losses(base, second, inputs, student)


@MODELS.register_module()
class PrunedClassifier(ReducerLosses, WholeNetworkClassifier):
    """A classifier whose network may have a reducer: ``backbone=dict(type='TimmViT', ..., reducer=dict(...))``."""

    def criterion(self, data_samples: list[DataSample]) -> Criterion:
        """Return the auxiliary heads' loss: the main head's loss on the image's label (mixed with Mixup or CutMix)."""
        mixed = "gt_score" in data_samples[0]
        target = (
            torch.stack([s.gt_score for s in data_samples]) if mixed else torch.cat([s.gt_label for s in data_samples])
        )
        return image_labels(
            lambda scores: self.head.loss_module(scores, target, avg_factor=len(scores)), self.backbone.num_classes
        )
