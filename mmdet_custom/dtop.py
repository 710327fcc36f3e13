"""DToP as a detector: tokens that surely show no object leave the backbone early.

Shapes: B images, h x w pixels, T packed tokens, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

from mmdet.models.detectors import MaskRCNN
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from mmcv_custom.errors import ConfigError
from mmcv_custom.reducer_losses import ReducerLosses
from token_pruning import TokenSet
from token_pruning.losses import report_losses

from .backbones.host import DetectionViT
from .token_head import TokenHead
from .token_labels import TokenLabels

Labels = Callable[[tuple[int, int]], TokenLabels]


class Annotated(NamedTuple):
    """A batch (B, 3, h, w) together with what heads on the way through the backbone learn from."""

    images: Tensor
    samples: Sequence[DetDataSample]


@MODELS.register_module()
class DToPMaskRCNN(ReducerLosses, MaskRCNN):
    """Mask R-CNN with a ``TokenHead`` at each stage of the reducer ``DToP``: the heads decide who leaves.

    Only background can be sure here. In segmentation a sure class is all that there is to know of a token; a detector
    has to find the object's box and mask as well, from the very tokens whose class is clear first. Background is done
    once it is known to be background; ``keep_per_class`` of those tokens stay as context.

    A head has the loss ``loss_token.BLOCK`` and learns only from the tokens that it looks at; its gradients also reach
    the backbone. It looks where a threshold is set. Without DToP there are no heads, as in ``PrunedMaskRCNN``.

    Args:
        loss_token: config of the heads' loss of many yes-or-no questions; ``loss_weight`` in it is its weight.
        mask_rcnn: arguments of mmdet's ``MaskRCNN``.

    Raises:
        ConfigError: the backbone cannot hand its tokens to a judge.
    """

    def __init__(self, *args, loss_token: dict | None = None, **mask_rcnn) -> None:
        super().__init__(*args, **mask_rcnn)
        if not isinstance(self.backbone, DetectionViT):
            raise ConfigError(f"DToPMaskRCNN cannot look at the tokens of a {type(self.backbone).__name__}: use "
                              "ViTAdapter or ViTBaseline")
        loss = loss_token or dict(type="CrossEntropyLoss", use_sigmoid=True)
        self.token_heads = nn.ModuleDict({
            str(block): TokenHead(self.backbone.embed_dim, self.num_classes, loss)
            for block in (self.backbone.reducer.stages if self.judged else ())})

    @property
    def num_classes(self) -> int:
        return self.roi_head.bbox_head.num_classes

    @property
    def judged(self) -> bool:
        return self.backbone.reducer is not None and self.backbone.reducer.judged

    def judge(self, block: int, tokens: TokenSet, labels: Labels | None = None) -> Tensor:
        """(T, 1) how sure the head after ``block`` is that a token shows no object. With ``labels``, a function of the
        grid, the head's loss is reported to whoever collects."""
        head = self.token_heads[str(block)]
        logits = head(tokens.x)
        if labels is not None:
            report_losses({f"loss_token.{block}": head.loss(logits, tokens, labels(tokens.grid))})
        return logits[:, -1:].sigmoid()

    def loss(self, inputs: Tensor, data_samples: Sequence[DetDataSample]) -> dict:
        return super().loss(Annotated(inputs, data_samples), data_samples)

    def extract_feat(self, inputs: Tensor | Annotated) -> tuple[Tensor, ...]:
        """The neck's maps of (B, 3, h, w); the heads learn on the way where the batch is ``Annotated``."""
        images, samples = inputs if isinstance(inputs, Annotated) else (inputs, None)
        labels = None
        if samples is not None:  # the same for all heads
            labels = cache(partial(TokenLabels.of_samples, samples, num_classes=self.num_classes))
        maps = self.backbone(images, partial(self.judge, labels=labels)) if self.judged else self.backbone(images)
        return self.neck(maps) if self.with_neck else maps
