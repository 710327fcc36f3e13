"""Gradient accumulation that does not cross epochs."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop


@HOOKS.register_module()
class WholeStepsHook(Hook):
    """Keep every accumulated optimizer step within one epoch.

    The last step of an epoch takes the batches that are left, each with its share of the weight. MMEngine counts steps
    across epochs: a step could then mix two epochs of a curriculum, and a resumed run would lose the batches of the
    unfinished step. Iteration-based training is left as it is.
    """

    def before_train_epoch(self, runner):
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            runner.optim_wrapper.initialize_count_status(runner.model, 0, len(runner.train_dataloader))
