"""The base class of heads on packed tokens, which DToP can call at every stage.

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
    """Base class of heads whose ``forward`` takes a token set.

    ``loss`` and ``predict`` take the stage outputs of all heads of a segmentor (None for a head that did not run) and
    pick this head's by ``in_index``. The head stores nothing between calls.

    Args:
        in_channels: C of the tokens.
        channels: width inside the head.
        num_classes: K.
        in_index: index of the head's stage end in the backbone's ``out_indices``.
        loss_decode: the loss.
        ignore_index: label of pixels without a class.

    Attributes:
        gives_scores: predictions are scores in [0, 1], not logits; ``MeanTTAModel`` then averages them as they are.
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
        """Return the tokens' logits (T, K) and the class logits (B, K, 2) or None, in single precision."""

    @abstractmethod
    def scores(self, logits: Tensor, class_logits: Tensor | None) -> Tensor:
        """Return scores in [0, 1] of logits (..., K), given class logits (..., K, 2) that broadcast against them."""

    @abstractmethod
    def losses(self, stage: StageOutput, targets: Targets) -> dict[str, Tensor]:
        """Return the losses of the head's stage output."""

    def token_scores(self, tokens: TokenSet, logits: Tensor, class_logits: Tensor | None) -> Tensor:
        """Return the scores (T, K) of the tokens that the head ran on."""
        return self.scores(logits, None if class_logits is None else class_logits[tokens.images()])

    def score_map(self, stage: StageOutput) -> Tensor:
        """Return the prediction at all positions, (B, K, H, W), by default the scores.

        At a token that has exited, the score is made of its mask logit at that stage and this head's class
        probability, as in the published code, unless ``stage`` has scores.
        """
        if stage.scores is not None:
            return stage.map(stage.scores)
        classes = None if stage.class_logits is None else stage.class_logits[:, None]
        return stage.map(self.scores(stage.mask_logits, classes))

    def loss(self, inputs: Sequence[StageOutput | None], batch_data_samples: Targets, train_cfg: dict | None) -> dict:
        """Return the head's losses and ``acc_seg``; ``batch_data_samples`` are the ``Targets`` of the batch."""
        stage, targets = inputs[self.in_index], batch_data_samples
        pixels = stage.to_pixels(self.score_map(stage).detach(), targets.labels.shape[-2:])
        acc_seg = accuracy(pixels, targets.labels, ignore_index=targets.ignore_index)
        return dict(self.losses(stage, targets), acc_seg=acc_seg)

    def predict(
        self, inputs: Sequence[StageOutput | None], batch_img_metas: list[dict], test_cfg: dict | None
    ) -> Tensor:
        """Return the prediction (B, K, h, w) at the pixels of the input."""
        stage = inputs[self.in_index]
        return stage.to_pixels(self.score_map(stage))
