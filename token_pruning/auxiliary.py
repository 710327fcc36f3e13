"""Auxiliary heads on the way through the blocks, and the labels that they learn from.

A method that learns by auxiliary heads knows no task: its host hands a *criterion* to ``collect_losses``, which turns
what one head says into a loss.

Shapes: B images, Q queries of a head, K classes, H x W grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from .errors import SettingError


@dataclass(frozen=True)
class AuxOutput:
    """What one auxiliary head says of a batch.

    Attributes:
        logits: (B, Q, K).
        grid: (H, W) of the images.
        queries: how many queries the head has: 1 for the image as a whole, or H * W, one for each token of the grid.
        asked: (Q,) int64, which of them answered; None if all did.
    """

    logits: Tensor
    grid: tuple[int, int]
    queries: int
    query_indices: Tensor | None = None

    def pick(self, values: Tensor) -> Tensor:
        """Of ``values`` (B, H, W, ...) those of the queries that answered, (B, Q, ...).

        Raises:
            ValueError: the head does not have one query for each token.
        """
        rows, columns = self.grid
        if self.queries != rows * columns:
            raise SettingError(
                f"labels of a grid of {rows} x {columns} need as many queries, and the auxiliary heads "
                f"have {self.queries}: set num_queries={rows * columns}, or train on crops that fit"
            )
        values = values.flatten(1, 2)
        return values if self.query_indices is None else values[:, self.query_indices]

    def of_image(self) -> Tensor:
        """(B, K) what is said of the images as a whole.

        Raises:
            ValueError: the head has several queries.
        """
        if self.queries != 1:
            raise SettingError(
                f"the auxiliary heads have {self.queries} queries and an image has one label: set num_queries=1"
            )
        return self.logits[:, 0]


Criterion = Callable[[AuxOutput], Tensor]


def image_labels(loss: Callable[[Tensor], Tensor], classes: int) -> Criterion:
    """A label an image: ``loss`` is the main head's own, a function of logits (B, K)."""

    def criterion(output: AuxOutput) -> Tensor:
        check_classes(output, classes)
        return loss(output.of_image())

    return criterion


def token_labels(labels: Tensor, classes: int, ignore: int = 255) -> Criterion:
    """A label a token: cross entropy, mean over the tokens that have one (none: 0).

    Args:
        labels: (B, H, W) int64; where the grid is larger, because images were padded, there is no label.
        classes: K.
        ignore: the label that is no class.
    """

    def criterion(output: AuxOutput) -> Tensor:
        check_classes(output, classes)
        rows, columns = output.grid
        wanted = F.pad(labels, (0, columns - labels.shape[2], 0, rows - labels.shape[1]), value=ignore)
        wanted = output.pick(wanted)
        loss = F.cross_entropy(
            output.logits.flatten(0, 1).float(), wanted.flatten(), ignore_index=ignore, reduction="sum"
        )
        return loss / (wanted != ignore).sum().clamp(min=1)

    return criterion


def presence_labels(labels: Tensor, known: Tensor | None = None) -> Criterion:
    """Which classes there are, any number of them: binary cross entropy, mean over classes and what is known.

    Args:
        labels: 0 or 1, (B, K) of the images, or (B, H, W, K) of the tokens.
        known: (B, H, W) bool, of which tokens the labels are known; None for all.
    """

    def criterion(output: AuxOutput) -> Tensor:
        check_classes(output, labels.shape[-1])
        logits, wanted = (output.of_image(), labels) if labels.dim() == 2 else (output.logits, output.pick(labels))
        loss = F.binary_cross_entropy_with_logits(logits.float(), wanted.float(), reduction="none").mean(-1)
        if known is None:
            return loss.mean()
        weights = output.pick(known).float()
        return (loss * weights).sum() / weights.sum().clamp(min=1)

    return criterion


def check_classes(output: AuxOutput, classes: int) -> None:
    """Raises ValueError if the head knows another number of classes than the labels."""
    if output.logits.shape[-1] != classes:
        raise SettingError(
            f"the auxiliary heads know {output.logits.shape[-1]} classes and the labels {classes}: set "
            f"the reducer's num_classes={classes}"
        )
