import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mmcv_custom import SeedByIterHook


class Draws:
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return random.random(), np.random.rand(), torch.rand(()).item()


def draw():
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_numbers_depend_on_seed_and_iteration_only():
    hook = SeedByIterHook()
    drawn = []
    for iteration in (5, 6, 5):
        hook.before_train_iter(SimpleNamespace(iter=iteration, seed=3), 0)
        drawn.append(draw())
    hook.before_train_epoch(SimpleNamespace(iter=5, seed=3))
    drawn.append(draw())
    hook.before_train_iter(SimpleNamespace(iter=5, seed=4), 0)
    assert drawn[0] == drawn[2] and len({drawn[0], drawn[1], drawn[3], draw()}) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_data_pipeline_repeats_after_a_resume_and_changes_with_the_epoch(workers):
    def epochs(iterations):
        hook, loader = SeedByIterHook(), DataLoader(Draws(), num_workers=workers, collate_fn=list)
        runner = SimpleNamespace(train_dataloader=loader, iter=0, seed=0)
        hook.before_train(runner)
        out = []
        for runner.iter in iterations:
            hook.before_train_epoch(runner)
            batches = []
            for batch in loader:
                batches.append(batch)
                hook.before_train_iter(runner, 0)
            out.append(batches)
        return out

    random.seed(1)
    first, second = epochs([0, 4])
    random.seed(2)
    assert epochs([4]) == [second] and first != second
