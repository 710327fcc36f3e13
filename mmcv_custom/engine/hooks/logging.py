"""Logged values averaged over processes, progress bars, and the step of an evaluation."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import torch
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner
from tqdm import tqdm


@HOOKS.register_module()
class ReduceLogsHook(Hook):
    """Log the mean over all processes instead of the main process's own losses."""

    priority = "HIGHEST"  # before RuntimeInfoHook, which records them

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Replace the values of ``outputs``, the dict of a training step."""
        if outputs:
            outputs.update(reduce_log_vars(outputs))


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """A progress bar for each evaluation and each training epoch, or for a whole iteration-based training.

    Bars are shown on a terminal only, so log files stay free of them.
    """

    priority = "LOW"

    def __init__(self):
        self.bars = []  # a validation's bar is shown below that of the training it interrupts

    def before_train_epoch(self, runner):
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            self._open("training", runner.max_iters, runner.iter)
        else:
            self._open(f"epoch {runner.epoch + 1}/{runner.max_epochs}", len(runner.train_dataloader))

    def before_val_epoch(self, runner):
        self._open("validation", len(runner.val_dataloader))

    def before_test_epoch(self, runner):
        self._open("test", len(runner.test_dataloader))

    def _open(self, what, total, done=0):
        shown = is_main_process() and sys.stderr.isatty()
        self.bars.append(
            tqdm(total=total, initial=done, desc=what, unit="batch", leave=False, disable=not shown, dynamic_ncols=True)
        )

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Advance the bar by one step and show the loss."""
        if outputs and "loss" in outputs and not self.bars[-1].disable:
            self.bars[-1].set_postfix(loss=f"{outputs['loss'].item():.3f}", refresh=False)
        self.bars[-1].update()

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Advance the bar by one batch."""
        self.bars[-1].update()

    after_test_iter = after_val_iter

    def after_train_epoch(self, runner):
        """Remove the bar."""
        self.bars.pop().close()

    def after_val_epoch(self, runner, metrics=None):
        """Remove the bar."""
        self.bars.pop().close()

    after_test_epoch = after_val_epoch


def evaluation_step(runner: Runner) -> int:
    """Return the step under which LoggerHook logs the scores of an evaluation.

    Epochs, or iterations if ``log_metric_by_epoch`` is False; 0 without a training.
    """
    if runner._train_loop is None or isinstance(runner._train_loop, dict):  # asking for the loop would build it
        return 0
    by_epoch = all(hook.log_metric_by_epoch for hook in runner.hooks if isinstance(hook, LoggerHook))
    return runner.epoch if by_epoch else runner.iter


def reduce_log_vars(log_vars: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Average logged values over all processes: dict name -> scalar tensor, with the same names in every process.

    The result is in the same order and carries no gradients. One collective call, or none in a single process.

    Raises:
        ValueError: a value is not a scalar.
    """
    if get_world_size() == 1 or not log_vars:
        return dict(log_vars)
    for name, value in log_vars.items():
        if value.numel() != 1:
            raise ValueError(f"logged value {name} must be a scalar, got shape {tuple(value.shape)}")
    values = torch.stack([v.detach().float().reshape(()) for v in log_vars.values()])
    all_reduce(values, op="mean")
    return dict(zip(log_vars, values.unbind(), strict=True))
