"""A head of one linear layer that says what each token shows, and learns it from boxes or masks.

Shapes: T packed tokens, C channels, K classes.
"""

from __future__ import annotations

import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.utils import reduce_mean
from mmengine.model import bias_init_with_prob
from torch import Tensor, nn

from token_pruning import TokenSet
from token_pruning.vit import init_linear

from .token_labels import TokenLabels

PRIOR = 0.01  # probability of each class before anything is learned


class TokenHead(nn.Module):
    """LayerNorm and a linear layer: for each class whether it is in the token's patch, and last whether none is.

    "None" is a question of its own: held against a threshold, it should be learned, not left over from K others.

    Args:
        dim: C.
        num_classes: K.
        loss: config of a loss of many yes-or-no questions; the mean over answers is taken here.
    """

    def __init__(self, dim: int, num_classes: int, loss: dict) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.classify = nn.Linear(dim, num_classes + 1)
        self.criterion = MODELS.build(loss)
        self.apply(init_linear)
        nn.init.constant_(self.classify.bias[:-1], bias_init_with_prob(PRIOR))

    def forward(self, x: Tensor) -> Tensor:
        """(T, C) -> logits (T, K + 1), in single precision."""
        return self.classify(self.norm(x)).float()

    def loss(self, logits: Tensor, tokens: TokenSet, labels: TokenLabels) -> Tensor:
        """Of the logits (T, K + 1): mean over the answers about all grid tokens (of all processes) whose labels are
        known."""
        known = tokens.from_map(F.pad(labels.known, (tokens.prefix, 0)))
        targets = tokens.from_map(F.pad(labels.targets, (0, 0, tokens.prefix, 0)))
        answers = reduce_mean(known.sum().float()).clamp(min=1) * logits.shape[1]
        weight = known[:, None].expand_as(logits).float()
        return self.criterion(logits, targets.long(), weight=weight, avg_factor=answers)
