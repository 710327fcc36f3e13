"""A pruning rate that grows over the first half of training (Token Cropr's segmentation recipe)."""

from __future__ import annotations

from fractions import Fraction

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop

from ...errors import ConfigError
from ..utils import unwrap_model


def pruning_strength(epoch: int, epochs: int) -> Fraction:
    """Return the fraction of the configured pruning rate to use in ``epoch`` (from 0) of ``epochs``.

    It rises from 0 to 1 in even steps over the first half of the epochs, then stays 1.
    """
    rising = epochs // 2
    return min(Fraction(epoch, rising - 1), Fraction(1)) if rising > 1 else Fraction(epoch >= rising)


@HOOKS.register_module()
class PruningCurriculumHook(Hook):
    """Set the pruning strength of the backbone's reducer before each training epoch.

    Validation after an epoch prunes as that epoch did; a test on its own prunes at full strength. A resumed run
    continues the schedule.

    Raises:
        ConfigError: before training, when the reducer has no ``anneal`` (Cropr has) or training counts iterations.
    """

    def before_train(self, runner):
        if not hasattr(_reducer(runner), "anneal"):
            raise ConfigError(
                "PruningCurriculumHook needs a reducer whose rate can be annealed, and the backbone's "
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
