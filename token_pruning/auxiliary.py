"""Outputs of auxiliary heads between blocks, and the criteria that compute losses from them.

A method with auxiliary heads is independent of the task: its host passes a *criterion* to ``collect_losses``, which
computes a loss from the output of one head.

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
    """Output of one auxiliary head for a batch.

    Attributes:
        logits: (B, Q, K).
        grid: (H, W) of the images.
        queries: number of queries of the head: 1 for the whole image, or H * W, one for each token of the grid.
        query_indices: (Q,) int64, which queries were computed; None for all.
    """

    logits: Tensor
    grid: tuple[int, int]
    queries: int
    query_indices: Tensor | None = None

    def pick(self, values: Tensor) -> Tensor:
        """Return the entries of ``values`` (B, H, W, ...) at the computed queries, (B, Q, ...).

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
        """Return the logits (B, K) of whole images.

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
    """Return the criterion for one label per image: ``loss``, the main head's function of logits (B, K)."""

    def criterion(output: AuxOutput) -> Tensor:
        check_classes(output, classes)
        return loss(output.of_image())

    return criterion


def token_labels(labels: Tensor, classes: int, ignore: int = 255) -> Criterion:
    """Return the criterion for one label per token: cross entropy, mean over labeled tokens (0 without any).

    Args:
        labels: (B, H, W) int64; tokens beyond it, where images were padded, have no label.
        classes: K.
        ignore: the value that marks tokens without a label.
    """

    def criterion(output: AuxOutput) -> Tensor:
        check_classes(output, classes)
        rows, columns = output.grid
        padded = F.pad(labels, (0, columns - labels.shape[2], 0, rows - labels.shape[1]), value=ignore)
        target = output.pick(padded)
        loss = F.cross_entropy(
            output.logits.flatten(0, 1).float(), target.flatten(), ignore_index=ignore, reduction="sum"
        )
        return loss / (target != ignore).sum().clamp(min=1)

    return criterion


def presence_labels(labels: Tensor, known: Tensor | None = None) -> Criterion:
    """Return the criterion for multi-label classification: binary cross entropy, mean over classes and known labels.

    Args:
        labels: 0 or 1, (B, K) of the images, or (B, H, W, K) of the tokens.
        known: (B, H, W) bool, tokens whose labels are known; None for all.
    """

    def criterion(output: AuxOutput) -> Tensor:
        check_classes(output, labels.shape[-1])
        logits, target = (output.of_image(), labels) if labels.dim() == 2 else (output.logits, output.pick(labels))
        loss = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none").mean(-1)
        if known is None:
            return loss.mean()
        weights = output.pick(known).float()
        return (loss * weights).sum() / weights.sum().clamp(min=1)

    return criterion


def check_classes(output: AuxOutput, classes: int) -> None:
    """Raise SettingError if head and labels differ in their number of classes."""
    if output.logits.shape[-1] != classes:
        raise SettingError(
            f"the auxiliary heads have {output.logits.shape[-1]} classes and the labels {classes}: set "
            f"the reducer's num_classes={classes}"
        )
