"""Losses of token selection as functions, and the way by which they leave a backbone.

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
    """Squared distance of the kept fraction from its target (DynamicViT's and SViT's ratio loss).

    Args:
        gate: (B, N) kept = 1, dropped = 0, differentiable.
        target: wanted fraction in (0, 1].
        per_image: hold every image to the target, instead of the batch as a whole.
        all_processes: take the batch of all processes as the whole, so that the split over GPUs does not matter. The
            gradient is right under data parallel training, which averages gradients. Has no effect with ``per_image``,
            which needs no mean over the batch.
    """
    if per_image:
        return (gate.mean(dim=1) - target).square().mean()
    mean = gate.mean()
    if all_processes and dist.is_available() and dist.is_initialized():
        total = torch.stack([gate.detach().sum(), gate.new_tensor(gate.numel())])
        dist.all_reduce(total)
        # The value is global; the gradient is this process's part of it, times the processes it will be averaged over.
        part = gate.sum() * dist.get_world_size() / total[1]
        mean = part + (total[0] / total[1] - part.detach())
    return (mean - target).square()


@contextmanager
def collect_losses(criterion: Criterion | None = None) -> Iterator[dict[str, Tensor]]:
    """Collect what reducers report while the body runs: ``with collect_losses() as extra: model(images)``.

    A name that is reported twice (two backbones, two passes) is summed if it is a loss and keeps its last value if not.

    Args:
        criterion: makes losses of what auxiliary heads say; it knows the labels of the body's images. Only methods
            that have such heads need it.
    """
    found: dict[str, Tensor] = {}
    collecting = _collectors.set((*_collectors.get(), found))
    judging = _criterion.set(criterion or _criterion.get())
    try:
        yield found
    finally:
        _collectors.reset(collecting)
        _criterion.reset(judging)


def active_criterion() -> Criterion | None:
    """The innermost criterion that was handed to ``collect_losses``."""
    return _criterion.get()


def report_losses(losses: dict[str, Tensor]) -> None:
    """Hand ``losses`` to every open ``collect_losses``; warns if there is none, since then they train nothing."""
    if not _collectors.get() and any("loss" in name for name in losses):
        warnings.warn(
            "the reducer's losses were not collected and train nothing; use a detector with ReducerLosses "
            "(PrunedMaskRCNN ...) or `with collect_losses()`",
            stacklevel=3,
        )
    for found in _collectors.get():
        for name, value in losses.items():
            found[name] = found[name] + value if name in found and "loss" in name else value
