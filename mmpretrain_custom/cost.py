"""What an evaluation cost: pictures a second, multiply-adds, kept tokens, of the real pictures on the real weights.

Shapes: B images, h x w pixels, L blocks.
"""

from __future__ import annotations

import statistics
import time

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmpretrain.registry import HOOKS
from torch import Tensor, nn

from token_pruning import Trace, count_flops

REPEATS = 5  # of the last batch, where there are too few to time


@HOOKS.register_module()
class CostHook(Hook):
    """Says after every evaluation what it cost, and adds that to its scores.

    ``cost/images_per_second``: of one process, the network's forward alone, the device idle at both ends. The first
    batches, and the first of every size, are left out. ``cost/gmacs``, ``cost/gmacs_std``: 10^9 multiply-adds of a
    picture, mean and standard deviation over pictures. ``cost/keep_ratio``: fraction of the grid tokens that each block
    computed, mean over pictures. For the last three, some pictures of the first batches run once more, one by one.

    Args:
        skip: batches that are not timed.
        counted: pictures that are counted.
    """

    priority = "HIGHEST"  # before RuntimeInfoHook, which records the scores

    def __init__(self, skip: int = 2, counted: int = 32) -> None:
        self.skip, self.counted, self.meter = skip, counted, None

    def before_val_epoch(self, runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.meter = Meter(model.backbone)

    before_test_epoch = before_val_epoch

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.meter:
            self.meter.count(self.counted)

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner, metrics=None) -> None:
        scores = self.meter.close(self.skip)
        metrics.update({f"cost/{name}": value for name, value in scores.items()})
        runner.logger.info(
            f"throughput {scores['images_per_second']:.1f} images/s in batches of {self.meter.batch} on "
            f"{self.meter.device.type}; {scores['gmacs']:.4g} +- {scores['gmacs_std']:.2g} GMACs an image (a "
            f"multiply-add is 1); kept by block: {' '.join(f'{kept:.2f}' for kept in scores['keep_ratio'])}")
        self.meter = None

    after_test_epoch = after_val_epoch


class Meter:
    """Times every forward of ``network`` until it is closed."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.device = network, next(network.parameters()).device
        self.images, self.batch = None, 0  # the last batch (B, 3, h, w), the largest B
        self.times = []  # (shape, seconds) of every forward
        self.gmacs, self.kept = [], []
        self.handles = [network.register_forward_pre_hook(self._before), network.register_forward_hook(self._after)]

    def _before(self, network: nn.Module, args: tuple[Tensor]) -> None:
        self.images, self.batch = args[0], max(self.batch, len(args[0]))
        self._start = self._now()

    def _after(self, network: nn.Module, args: tuple[Tensor], scores: Tensor) -> None:
        self.times.append((tuple(args[0].shape), self._now() - self._start))

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @torch.no_grad()
    def count(self, pictures: int) -> None:
        """Count pictures of the last batch one by one, until there are ``pictures`` of all batches."""
        execution, self.network.execution = self.network.execution, "exact"
        for image in self.images[:pictures - len(self.gmacs), None]:
            # The class's own forward: one that is compiled or replayed shows neither operators nor tokens.
            with count_flops() as flops, Trace() as trace:
                type(self.network).forward(self.network, image)
            self.gmacs.append(flops.gmacs)
            self.kept.append(trace.passes[0].keep_ratio()[0])
        self.network.execution = execution

    @torch.no_grad()
    def close(self, skip: int) -> dict[str, float | list[float]]:
        """The fields that ``CostHook`` names, without "cost/"."""
        timed = self._timed(skip)
        if not timed:
            for _ in range(REPEATS):
                self.network(self.images)
            timed = self._timed(len(self.times) - REPEATS)
        for handle in self.handles:
            handle.remove()
        return dict(
            images_per_second=sum(n for n, _ in timed) / sum(seconds for _, seconds in timed),
            gmacs=statistics.mean(self.gmacs), gmacs_std=statistics.pstdev(self.gmacs),
            keep_ratio=torch.stack(self.kept).mean(0).tolist())

    def _timed(self, skip: int) -> list[tuple[int, float]]:
        """(B, seconds) of the batches after the first ``skip``, without the first of every size."""
        seen, timed = set(), []
        for i, (shape, seconds) in enumerate(self.times):
            if i >= skip and shape in seen:
                timed.append((shape[0], seconds))
            seen.add(shape)
        return timed
