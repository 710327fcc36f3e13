"""The base of heads that look at packed tokens, so that DToP can ask them.

Shapes: B images, T packed tokens, N positions of an image, K classes, H x W grid, h x w pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import accuracy
from torch import Tensor

from token_pruning import TokenSet

from ..losses import Targets
from .stages import StageOutput


class TokenHead(BaseDecodeHead):
    """``forward`` looks at a token set; ``loss`` and ``predict`` take what all heads of a segmentor saw (one ``StageOutput``
    of each, or None of one that did not look) and pick the own one by ``in_index``. Nothing is kept on the head.

    Args:
        in_channels: C of the tokens.
        channels: inside the head.
        num_classes: K.
        in_index: of the stage end (the backbone's ``out_indices``) that the head looks at.
        loss_decode: the loss.
        ignore_index: the label that is no class.

    Attributes:
        gives_scores: predictions are scores from 0 to 1, not logits; ``MeanTTAModel`` averages them as they are.
    """

    gives_scores = True

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_classes: int,
        in_index: int,
        loss_decode: dict,
        ignore_index: int = 255,
    ) -> None:
        super().__init__(
            in_channels,
            channels,
            num_classes=num_classes,
            in_index=in_index,
            loss_decode=loss_decode,
            ignore_index=ignore_index,
            dropout_ratio=0,
            init_cfg=None,
        )
        del self.conv_seg

    @abstractmethod
    def forward(self, tokens: TokenSet) -> tuple[Tensor, Tensor | None]:
        """Logits (T, K) of the tokens and, if the head has such, (B, K, 2) of the classes; single precision."""

    @abstractmethod
    def scores(self, logits: Tensor, class_logits: Tensor | None) -> Tensor:
        """Scores in [0, 1] of logits (..., K), given class logits (..., K, 2) that fit them."""

    @abstractmethod
    def losses(self, stage: StageOutput, targets: Targets) -> dict[str, Tensor]:
        """The losses of what the head saw."""

    def token_scores(self, tokens: TokenSet, logits: Tensor, class_logits: Tensor | None) -> Tensor:
        """(T, K) scores of the tokens that the head looked at: what a judge says."""
        return self.scores(logits, None if class_logits is None else class_logits[tokens.images()])

    def score_map(self, stage: StageOutput) -> Tensor:
        """(B, K, H, W) what is predicted at all positions, by default the scores. Where a token left, its mask logit is
        the one that it left with, and the class probability is this head's (published so), unless the view has the
        scores."""
        if stage.scores is not None:
            return stage.map(stage.scores)
        classes = None if stage.class_logits is None else stage.class_logits[:, None]
        return stage.map(self.scores(stage.mask_logits, classes))

    def loss(self, inputs: Sequence[StageOutput | None], batch_data_samples: Targets, train_cfg: dict | None) -> dict:
        """The head's losses and ``acc_seg`` for the ``Targets`` that the segmentor made of the samples."""
        stage, targets = inputs[self.in_index], batch_data_samples
        pixels = stage.to_pixels(self.score_map(stage).detach(), targets.labels.shape[-2:])
        acc_seg = accuracy(pixels, targets.labels, ignore_index=targets.ignore_index)
        return dict(self.losses(stage, targets), acc_seg=acc_seg)

    def predict(
        self, inputs: Sequence[StageOutput | None], batch_img_metas: list[dict], test_cfg: dict | None
    ) -> Tensor:
        """(B, K, h, w) scores of the pixels that were given in."""
        stage = inputs[self.in_index]
        return stage.to_pixels(self.score_map(stage))
