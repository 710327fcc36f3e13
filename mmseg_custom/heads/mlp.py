"""A head that scores every token by itself, like SETR's naive decoder.

"Rethinking Semantic Segmentation from a Sequence-to-Sequence Perspective with Transformers", Zheng et al., CVPR 2021.

Shapes: T packed tokens, K classes, C channels.
"""

from __future__ import annotations

import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from token_pruning import TokenSet
from token_pruning.vit import init_linear

from ..losses import Targets
from .stages import StageOutput
from .token_head import TokenHead


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers to (..., C)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


@MODELS.register_module()
class MLPHead(TokenHead):
    """An MLP on each token, trained by cross entropy of the pixels.

    A token's scores are the softmax of its logits; the prediction is the logits.

    Args:
        num_layers: number of linear layers.
        mlp_ratio: hidden width relative to ``channels``.
        head: arguments of ``TokenHead``.
    """

    gives_scores = False

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_classes: int,
        num_layers: int = 3,
        mlp_ratio: float = 2,
        in_index: int = -1,
        loss_decode: dict | None = None,
        **head,
    ) -> None:
        super().__init__(
            in_channels, channels, num_classes, in_index, loss_decode or dict(type="CrossEntropyLoss"), **head
        )
        self.layer = MLP([in_channels, *[int(channels * mlp_ratio)] * (num_layers - 1), num_classes])
        self.apply(init_linear)

    def forward(self, tokens: TokenSet) -> tuple[Tensor, None]:
        """Return the logits (T, K); there are no class logits."""
        return self.layer(tokens.x).float(), None

    def scores(self, logits: Tensor, class_logits: Tensor | None) -> Tensor:
        """Return the softmax of the logits (..., K)."""
        return logits.softmax(-1)

    def score_map(self, stage: StageOutput) -> Tensor:
        """Return the logits at all positions, (B, K, H, W)."""
        return stage.map(stage.mask_logits)

    def losses(self, stage: StageOutput, targets: Targets) -> dict[str, Tensor]:
        """Return the cross entropy of the pixels."""
        pixels = stage.to_pixels(self.score_map(stage), targets.labels.shape[-2:])
        return {self.loss_decode.loss_name: self.loss_decode(pixels, targets.labels, ignore_index=targets.ignore_index)}
