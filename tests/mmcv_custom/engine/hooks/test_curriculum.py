"""The rate curriculum: even steps over the first half, resumed runs, and reducers and loops that it refuses."""

from types import SimpleNamespace

import pytest
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch import nn

from mmcv_custom import ConfigError, PruningCurriculumHook
from mmcv_custom.engine.hooks.curriculum import pruning_strength
from token_pruning import Cropr, ToMe


def a_runner(reducer, epochs=8, loop=EpochBasedTrainLoop):
    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.reducer = reducer
    return SimpleNamespace(model=model, epoch=0, max_epochs=epochs, train_loop=object.__new__(loop))


@pytest.mark.parametrize(
    "epochs, wanted",
    [
        (8, [0, 2, 5, 8, 8, 8, 8, 8]),
        (7, [0, 4, 8, 8, 8, 8, 8]),
        (4, [0, 8, 8, 8]),
        (3, [0, 8, 8]),
        (2, [0, 8]),
        (1, [8]),
    ],
)
def test_rates(epochs, wanted):
    reducer = Cropr(24, 4, r=8)
    runner, hook, found = a_runner(reducer, epochs), PruningCurriculumHook(), []
    hook.before_train(runner)
    for runner.epoch in range(epochs):
        hook.before_train_epoch(runner)
        left = reducer.schedule.tokens_left((8, 8), 1)
        found.append(left[0] - left[1])
    assert found == wanted == [int(8 * pruning_strength(e, epochs)) for e in range(epochs)]
    again = Cropr(24, 4, r=8)  # a resumed run prunes as an uninterrupted one
    runner = a_runner(again, epochs)
    runner.epoch = epochs // 4
    hook.before_train_epoch(runner)
    left = again.schedule.tokens_left((8, 8), 1)
    assert left[0] - left[1] == wanted[runner.epoch]


def test_reducers_and_loops_that_are_refused():
    for reducer, name in ((None, "NoneType"), (ToMe(24, 4), "ToMe")):
        with pytest.raises(ConfigError, match=f"can be annealed, and the backbone's is {name}: use Cropr"):
            PruningCurriculumHook().before_train(a_runner(reducer))
    with pytest.raises(ConfigError, match="counts epochs and this training counts iterations"):
        PruningCurriculumHook().before_train(a_runner(Cropr(24, 4, r=8), loop=IterBasedTrainLoop))
