"""Cost of an evaluation on its own images and weights: throughput, multiply-adds, kept tokens.

Shapes: B images, h x w pixels, L blocks.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner.amp import autocast
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from token_pruning.host import is_host
from token_pruning.patching import patched_method

from ..utils import unwrap_model
from .logging import evaluation_step

if TYPE_CHECKING:  # the benchmark code is loaded by the first evaluation that is measured
    from ...benchmark.flops import Count

REPEATS = 5  # timed repetitions of the last batch, where there are too few batches to time


@HOOKS.register_module()
class CostHook(Hook):
    """Report the cost of every evaluation of a detector, segmentor or classifier, and add it to the scores.

    Models whose backbone is not of this project are skipped. The scores:

    - ``cost/images_per_second``: of one process, for the network including the post-processing of its outputs (boxes,
      masks, labels), with the device synchronised at both ends. The first batches, and the first of every size, are
      left out.
    - ``cost/gmacs``, ``cost/gmacs_std``: 10^9 multiply-adds of an image, its windows and flips together, mean and
      standard deviation over images. Heads that run to select tokens are included.
    - ``cost/keep_ratio``: fraction of the grid tokens that each block computed, mean over images; for ``vis_backends``
      also one curve per block, ``cost/keep_ratio.0`` and so on.

    For multiply-adds and kept tokens, some images of the first batches run once more, one by one.

    Args:
        skip: number of first batches that are not timed.
        counted: number of images whose multiply-adds are counted.
    """

    priority = "HIGHEST"  # before RuntimeInfoHook, which records the scores

    def __init__(self, skip: int = 2, counted: int = 32) -> None:
        self.skip, self.counted = skip, counted
        self.meter: Meter | None = None

    def before_val_epoch(self, runner) -> None:
        self._begin(runner, "val_loop")

    def before_test_epoch(self, runner) -> None:
        self._begin(runner, "test_loop")

    def _begin(self, runner, loop: str) -> None:
        model = unwrap_model(runner.model)
        half = getattr(getattr(runner, loop, None), "fp16", False)
        self.meter = Meter(model, half) if is_host(getattr(model, "backbone", None)) else None

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.meter:
            self.meter.close_batch(self.counted)

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner, metrics=None) -> None:
        if not self.meter:
            return
        scores = self.meter.close(self.skip)
        metrics.update({f"cost/{name}": value for name, value in scores.items()})
        by_block = {f"cost/keep_ratio.{block}": kept for block, kept in enumerate(scores["keep_ratio"])}
        runner.visualizer.add_scalars(by_block, step=evaluation_step(runner))
        runner.logger.info(
            f"throughput {scores['images_per_second']:.1f} images/s in batches of {self.meter.batch} on "
            f"{self.meter.device.type}; {scores['gmacs']:.4g} +- {scores['gmacs_std']:.2g} GMACs an image (a "
            f"multiply-add is 1); kept by block: {' '.join(f'{kept:.2f}' for kept in scores['keep_ratio'])}"
        )
        self.meter = None

    after_test_epoch = after_val_epoch


class Meter:
    """Time every prediction of ``model`` until closed.

    A batch may be predicted several times, flipped or resized; together these are the cost of its images.

    Args:
        model: the model, without wrappers.
        half: predictions are made in mixed precision.
    """

    def __init__(self, model: nn.Module, half: bool = False) -> None:
        from ...benchmark.timing import now

        self.model, self.half, self.device = model, half, next(model.parameters()).device
        self.now = partial(now, self.device)
        self.batch = 0  # the largest B
        # Of the current and of the previous batch: (images (B, 3, h, w), samples) of every prediction.
        self.calls: list[tuple[Tensor, list[BaseDataElement]]] = []
        self.last: list[tuple[Tensor, list[BaseDataElement]]] = []
        self.seconds = 0.0  # of the current batch
        self.times: list[tuple[tuple, float]] = []  # (shapes, seconds) of every batch
        self.counts: list[list[Count]] = []  # of every counted image
        self.handles = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, with_kwargs=True),
        ]

    def _before(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        self._start = self.now()

    def _after(self, model: nn.Module, args: tuple, kwargs: dict, outputs: object) -> None:
        self.seconds += self.now() - self._start
        # Not the samples themselves, which hold the predictions by now: for twelve views these would be gigabytes.
        self.calls.append((kwargs["inputs"], fresh_samples(kwargs["data_samples"])))

    def close_batch(self, num_images: int) -> None:
        """End a batch, and count its images one by one until ``num_images`` have been counted in all."""
        self.last, self.calls, seconds, self.seconds = self.calls, [], self.seconds, 0.0
        shapes = tuple(tuple(images.shape) for images, _ in self.last)
        self.times.append((shapes, seconds))
        self.batch = max(self.batch, shapes[0][0])
        for i in range(min(num_images - len(self.counts), shapes[0][0])):
            self.counts.append([self._count(images[i : i + 1], samples[i : i + 1]) for images, samples in self.last])
            self.calls, self.seconds = [], 0.0

    def _count(self, image: Tensor, samples: Sequence[BaseDataElement]) -> Count:
        """Count one image with the backbone's own forward: a compiled or replayed one shows no operators or tokens."""
        from ...benchmark.flops import count

        backbone, execution = self.model.backbone, self.model.backbone.execution
        backbone.execution = "exact"
        try:
            with patched_method(backbone, "forward", None):
                return count(partial(self._predict, image, samples), self.model)
        finally:
            backbone.execution = execution

    def _predict(self, images: Tensor, samples: Sequence[BaseDataElement]) -> None:
        """Repeat a call and discard its predictions."""
        with torch.no_grad(), autocast(enabled=self.half):
            self.model(inputs=images, data_samples=fresh_samples(samples), mode="predict")

    def close(self, skip: int) -> dict[str, float | list[float]]:
        """Stop measuring and return the scores that ``CostHook`` lists, without "cost/"."""
        timed = self._timed(skip)
        if not timed:
            for _ in range(REPEATS):
                for images, samples in self.last:
                    self._predict(images, samples)
                self.close_batch(0)
            timed = self._timed(len(self.times) - REPEATS)
        for handle in self.handles:
            handle.remove()
        gmacs = [sum(c.total for c in counts) / 2e9 for counts in self.counts]
        kept = [
            sum(c.kept[0] * c.positions for c in counts) / sum(c.positions for c in counts) for counts in self.counts
        ]
        return dict(
            images_per_second=sum(n for n, _ in timed) / sum(seconds for _, seconds in timed),
            gmacs=statistics.mean(gmacs),
            gmacs_std=statistics.pstdev(gmacs),
            keep_ratio=torch.stack(kept).mean(0).tolist(),
        )

    def _timed(self, skip: int) -> list[tuple[int, float]]:
        """Return (B, seconds) of the batches after the first ``skip``, without the first of every size."""
        seen, timed = set(), []
        for i, (shapes, seconds) in enumerate(self.times):
            if i >= skip and shapes in seen:
                timed.append((shapes[0][0], seconds))
            seen.add(shapes)
        return timed


def fresh_samples(samples: Sequence[BaseDataElement]) -> list[BaseDataElement]:
    """Copy the samples with their metadata only, without predictions."""
    return [type(sample)(metainfo=sample.metainfo) for sample in samples]
