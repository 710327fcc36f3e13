"""What a run says on its way: logged values of all processes, progress bars, where an evaluation stands."""

import sys

import torch
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop
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
    """A progress bar for each evaluation and each epoch of training, or for all of a training that is counted in
    iterations, on a terminal only: log files stay free of it."""

    priority = "LOW"

    def __init__(self):
        self.bars = []  # a validation's stands below that of the training which it interrupts

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
        """One step on, with the loss beside the bar."""
        if outputs and "loss" in outputs and not self.bars[-1].disable:
            self.bars[-1].set_postfix(loss=f"{float(outputs['loss']):.3f}", refresh=False)
        self.bars[-1].update()

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """One batch on."""
        self.bars[-1].update()

    after_test_iter = after_val_iter

    def after_train_epoch(self, runner):
        """Take the bar away."""
        self.bars.pop().close()

    def after_val_epoch(self, runner, metrics=None):
        """Take the bar away."""
        self.bars.pop().close()

    after_test_epoch = after_val_epoch


def evaluation_step(runner):
    """Where an evaluation stands on the axis of training, as LoggerHook counts it for the scores: epochs, or iterations
    where ``log_metric_by_epoch`` is False; 0 without a training."""
    if runner._train_loop is None or isinstance(runner._train_loop, dict):  # asking for the loop would build it
        return 0
    by_epoch = all(hook.log_metric_by_epoch for hook in runner.hooks if isinstance(hook, LoggerHook))
    return runner.epoch if by_epoch else runner.iter


def reduce_log_vars(log_vars):
    """Mean over all processes of values to be logged: dict name -> scalar tensor, the same names in every process.

    Returns a dict in the same order; gradients do not flow through it. One collective call, none in a single process.
    Raises ValueError when a value is not a scalar.
    """
    if get_world_size() == 1 or not log_vars:
        return dict(log_vars)
    for name, value in log_vars.items():
        if value.numel() != 1:
            raise ValueError(f"logged value {name} must be a scalar, got shape {tuple(value.shape)}")
    values = torch.stack([v.detach().float().reshape(()) for v in log_vars.values()])
    all_reduce(values, op="mean")
    return dict(zip(log_vars, values.unbind(), strict=True))
