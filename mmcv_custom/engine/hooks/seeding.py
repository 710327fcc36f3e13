"""What happens around iterations: seeds that survive a kill, logged values of all processes, progress bars."""

import random
import sys
from functools import partial

import numpy as np
import torch
from mmengine.dataset import worker_init_fn
from mmengine.dist import all_reduce, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from tqdm import tqdm

from ..acceleration import accelerate


@HOOKS.register_module()
class SeedByIterHook(Hook):
    """Make every random number of training a function of (seed, iteration, rank), so that a run that was killed and
    resumed draws what an uninterrupted one draws.

    Covered: whatever the training process draws in an iteration (DropPath, Gumbel noise, RoI sampling), and the order
    of the samples once the Runner's seed is fixed or restored. The data pipeline is covered when num_workers is 0 or
    when workers live for one epoch (persistent_workers=False): PyTorch draws their base seed from the training
    process at the start of the epoch, and this hook makes them keep it, where MMEngine would give them the same seed
    every epoch. Not covered: the augmentations of workers that persist over epochs (they go on drawing where they
    stopped, which a new process cannot know; said in the log), those of an iteration-based loop with workers, and GPU
    kernels that are not deterministic.

    The seed is the Runner's (``randomness = dict(seed=...)`` in the config).
    """

    priority = "VERY_HIGH"  # before any hook that might draw

    def before_train(self, runner):
        """Let data workers take their seed from this process."""
        loader = runner.train_dataloader
        if loader.num_workers == 0:
            return
        chosen = loader.worker_init_fn
        if chosen is None or isinstance(chosen, partial) and chosen.func is worker_init_fn:
            loader.worker_init_fn = _seed_worker
        if loader.persistent_workers:
            runner.logger.info(
                "Augmentations after a resume will differ from an uninterrupted run's: "
                "train_dataloader.persistent_workers=False makes them equal."
            )

    def before_train_epoch(self, runner):
        """Seed what is drawn before the first iteration: the workers' base seed, the first batch without workers."""
        self._seed(runner, 0)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Seed what the iteration draws."""
        self._seed(runner, 1)

    def _seed(self, runner, moment):
        words = np.random.SeedSequence([runner.seed or 0, runner.iter, get_rank(), moment]).generate_state(1)
        _seed_all(int(words[0]))


@HOOKS.register_module()
class WholeStepsHook(Hook):
    """With accumulated gradients no step takes batches of two epochs: the last of an epoch takes what is left of it,
    every batch with its weight. MMEngine counts through the epochs, so that those of a curriculum would mix, and a
    resumed run would lose the batches of the step that was open. Trainings counted in iterations stay MMEngine's.
    """

    def before_train_epoch(self, runner):
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            runner.optim_wrapper.initialize_count_status(runner.model, 0, len(runner.train_dataloader))


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
        self.bars.append(tqdm(total=total, initial=done, desc=what, unit="batch", leave=False, disable=not shown,
                              dynamic_ncols=True))

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


@HOOKS.register_module()
class AccelerationHook(Hook):
    """Make the model faster after the weights are loaded and before the first test image.

    Args:
        steps: names of ``mmcv_custom.engine.acceleration.STEPS``, in that order.
    """

    def __init__(self, steps):
        self.steps = steps

    def before_test(self, runner):
        accelerate(runner.model, self.steps)


def evaluation_step(runner):
    """Where an evaluation stands on the axis of training, as LoggerHook counts it for the scores: epochs, or iterations
    where ``log_metric_by_epoch`` is False; 0 without a training."""
    if runner._train_loop is None or isinstance(runner._train_loop, dict):  # asking for the loop would build it
        return 0
    by_epoch = all(hook.log_metric_by_epoch for hook in runner.hooks if isinstance(hook, LoggerHook))
    return runner.epoch if by_epoch else runner.iter


def _seed_worker(worker_id):
    # PyTorch has seeded torch in this worker with the epoch's base seed + worker_id; the other two follow it.
    _seed_all(torch.initial_seed() % 2**32)


def _seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


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
