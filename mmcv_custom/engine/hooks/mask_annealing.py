"""Masked attention that fades during training, so that the trained model needs none (EoMT, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ...errors import ConfigError
from ..utils import unwrap_model


def mask_probability(iteration: int, start: int, end: int, power: float = 0.9) -> float:
    """Return the probability that a query keeps its mask: 1 until ``start``, falling, 0 from ``end`` on."""
    progress = min(max((iteration - start) / (end - start), 0.0), 1.0)
    return (1 - progress) ** power


@HOOKS.register_module()
class MaskAnnealingHook(Hook):
    """Set the probabilities of masked attention of an ``EoMTEncoder`` before each training iteration.

    The probabilities are saved with the model, so that a validation or a resumed run continues with them.

    Args:
        start: iteration at which each of the last k blocks begins to fade.
        end: iteration from which it is plain attention.

    Raises:
        ConfigError: the lists do not fit each other or, before training, the backbone.
    """

    def __init__(self, start: Sequence[int], end: Sequence[int]) -> None:
        if len(start) != len(end) or any(not 0 <= a < b for a, b in zip(start, end, strict=True)):
            raise ConfigError(
                f"MaskAnnealingHook has start={list(start)} and end={list(end)}: give one iteration for each of the "
                "encoder's query_blocks, each start before its end"
            )
        self.start, self.end = list(start), list(end)

    def before_train(self, runner) -> None:
        encoder = unwrap_model(runner.model).backbone
        blocks = getattr(encoder, "query_blocks", None)
        if blocks != len(self.start):
            found = f"{blocks} blocks with queries" if blocks else "no queries"
            raise ConfigError(
                f"MaskAnnealingHook has schedules for {len(self.start)} blocks and the {type(encoder).__name__} has "
                f"{found}: give an EoMTEncoder one start and end for each of its query_blocks"
            )

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        encoder = unwrap_model(runner.model).backbone
        probs = tuple(mask_probability(runner.iter, a, b) for a, b in zip(self.start, self.end, strict=True))
        if probs != encoder.mask_probs:  # the buffer is on the device
            encoder.mask_probs = probs
