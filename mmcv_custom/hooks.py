"""What happens around training iterations: seeds that survive a kill, logged values of all processes."""

import random
from functools import partial

import numpy as np
import torch
from mmengine.dataset import worker_init_fn
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


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

    Args:
        seed: any non-negative integer.
    """

    priority = "VERY_HIGH"  # before any hook that might draw

    def __init__(self, seed=0):
        self.seed = seed

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
        self._seed(runner.iter, 0)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Seed what the iteration draws."""
        self._seed(runner.iter, 1)

    def _seed(self, iteration, moment):
        words = np.random.SeedSequence([self.seed, iteration, get_rank(), moment]).generate_state(1)
        _seed_all(int(words[0]))


@HOOKS.register_module()
class ReduceLogsHook(Hook):
    """Log the mean over all processes instead of the main process's own losses."""

    priority = "HIGHEST"  # before RuntimeInfoHook, which records them

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Replace the values of ``outputs``, the dict of a training step."""
        if outputs:
            outputs.update(reduce_log_vars(outputs))


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
