"""A pruning rate that grows in the first epochs of a training (Token Cropr's segmentation recipe)."""

from fractions import Fraction

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop

from ...errors import ConfigError
from ..utils import unwrap_model


def pruning_strength(epoch, epochs):
    """How much of the configured rate is taken in ``epoch`` (from 0) of ``epochs``: from nothing to all in even steps
    over the first half, then all."""
    rising = epochs // 2
    return min(Fraction(epoch, rising - 1), Fraction(1)) if rising > 1 else Fraction(epoch >= rising)


@HOOKS.register_module()
class PruningCurriculumHook(Hook):
    """Before each epoch of training, sets how much the backbone's reducer takes; validation after an epoch takes as
    much as that epoch did, a test by itself all. A resumed run goes on where it stood.

    Raises ConfigError, before training, when the reducer has no such setting (Cropr has) or the training is not counted
    in epochs.
    """

    def before_train(self, runner):
        if not hasattr(_reducer(runner), "anneal"):
            raise ConfigError(
                "PruningCurriculumHook turns the rate of a reducer that can be eased, and the backbone's "
                f"is {type(_reducer(runner)).__name__}: use Cropr, or take the hook out of custom_hooks"
            )
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ConfigError(
                "PruningCurriculumHook counts epochs and this training counts iterations: use "
                "train_cfg.type='EpochBasedTrainLoop'"
            )

    def before_train_epoch(self, runner):
        _reducer(runner).anneal(pruning_strength(runner.epoch, runner.max_epochs))


def _reducer(runner):
    return getattr(unwrap_model(runner.model).backbone, "reducer", None)
