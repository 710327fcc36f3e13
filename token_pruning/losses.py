"""Losses of token selection, and how they are passed from a backbone to the training loop.

Shapes: B images, N tokens.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.distributed as dist
from torch import Tensor

from .auxiliary import Criterion

_collectors: ContextVar[tuple[dict[str, Tensor], ...]] = ContextVar("loss_collectors", default=())
_criterion: ContextVar[Criterion | None] = ContextVar("criterion", default=None)


def ratio_loss(gate: Tensor, target: float, per_image: bool = False, all_processes: bool = False) -> Tensor:
    """Return the squared difference of keep ratio and target (ratio loss of DynamicViT and SViT).

    Args:
        gate: (B, N) kept = 1, dropped = 0, differentiable.
        target: target keep ratio in (0, 1].
        per_image: compare the keep ratio of each image with the target, instead of that of the batch.
        all_processes: use the keep ratio of the batch of all processes, so that the split over GPUs does not matter.
            The gradient is correct under data parallel training, which averages gradients. Has no effect with
            ``per_image``.
    """
    if per_image:
        return (gate.mean(dim=1) - target).square().mean()
    mean = gate.mean()
    if all_processes and dist.is_available() and dist.is_initialized():
        total = torch.stack([gate.detach().sum(), gate.new_tensor(gate.numel())])
        dist.all_reduce(total)
        # The value is global. The gradient is the part of this process, times the number of processes over which it
        # will be averaged.
        part = gate.sum() * dist.get_world_size() / total[1]
        mean = part + (total[0] / total[1] - part.detach())
    return (mean - target).square()


@contextmanager
def collect_losses(criterion: Criterion | None = None) -> Iterator[dict[str, Tensor]]:
    """Collect the losses of reducers in a ``with`` statement: ``with collect_losses() as extra: model(images)``.

    Values reported twice under one name (two backbones, two passes) are summed if they are losses; otherwise the last
    one is kept.

    Args:
        criterion: computes losses from the outputs of auxiliary heads, with the labels of the images. Only methods with
            ``has_aux_heads`` need it.
    """
    found: dict[str, Tensor] = {}
    collecting = _collectors.set((*_collectors.get(), found))
    previous = _criterion.set(criterion or _criterion.get())
    try:
        yield found
    finally:
        _collectors.reset(collecting)
        _criterion.reset(previous)


def active_criterion() -> Criterion | None:
    """Return the criterion of the innermost ``collect_losses`` that has one."""
    return _criterion.get()


def report_losses(losses: dict[str, Tensor]) -> None:
    """Pass ``losses`` to every active ``collect_losses``; warn if there is none, because then they train nothing."""
    if not _collectors.get() and any("loss" in name for name in losses):
        warnings.warn(
            "the reducer's losses were not collected and train nothing; use a detector with ReducerLosses "
            "(PrunedMaskRCNN ...) or `with collect_losses()`",
            stacklevel=3,
        )
    for found in _collectors.get():
        for name, value in losses.items():
            found[name] = found[name] + value if name in found and "loss" in name else value
