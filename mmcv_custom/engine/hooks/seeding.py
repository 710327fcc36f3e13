"""Random seeds that make a resumed run equal an uninterrupted one."""

import random
from functools import partial

import numpy as np
import torch
from mmengine.dataset import worker_init_fn
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop


@HOOKS.register_module()
class SeedByIterHook(Hook):
    """Make every random number of training a function of (seed, iteration, rank).

    A run that was killed and resumed then draws the same numbers as an uninterrupted one. The seed is the Runner's
    (``randomness = dict(seed=...)`` in the config).

    Covered: everything that the training process draws in an iteration (DropPath, Gumbel noise, RoI sampling), and the
    order of the samples once the Runner's seed is fixed or restored. The data pipeline is covered if ``num_workers`` is
    0 or workers live for one epoch (``persistent_workers=False``): PyTorch draws their base seed from the training
    process at the start of the epoch, and this hook makes the workers use it, where MMEngine would give them the same
    seed every epoch.

    Not covered: augmentations of workers that persist over epochs (their random state is not in a checkpoint; logged in
    one sentence), augmentations of iteration-based loops with workers, and non-deterministic GPU kernels.
    """

    priority = "VERY_HIGH"  # before any hook that may draw random numbers

    def before_train(self, runner):
        """Make data workers take their seed from this process, and batches of an iteration-based loop theirs."""
        loader = runner.train_dataloader
        if loader.num_workers == 0:
            loop = getattr(runner, "train_loop", None)
            if isinstance(loop, IterBasedTrainLoop):
                loop.dataloader_iterator = _SeededBatches(loop.dataloader_iterator, partial(self._seed, runner, 0))
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
        """Seed what is drawn before the first iteration: the workers' base seed, or the first batch without workers."""
        self._seed(runner, stage=0)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Seed the random numbers of the iteration."""
        self._seed(runner, stage=1)

    def _seed(self, runner, stage):
        words = np.random.SeedSequence([runner.seed or 0, runner.iter, get_rank(), stage]).generate_state(1)
        _seed_all(int(words[0]))


class _SeededBatches:
    """Batches of an iteration-based loop, each loaded with random numbers of its own.

    The loop has no hook before it loads a batch, and a resumed one starts its data loader there, which draws a number.
    """

    def __init__(self, batches, seed):
        self.batches, self.seed = batches, seed

    def __getattr__(self, name):
        return getattr(self.batches, name)

    def __next__(self):
        self.batches._ensure_iterator()
        self.seed()
        return next(self.batches)


def _seed_worker(worker_id):
    # PyTorch has seeded torch in this worker with the epoch's base seed + worker_id; the other two follow it.
    _seed_all(torch.initial_seed() % 2**32)


def _seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
