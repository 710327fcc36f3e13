"""Steps of accumulated gradients that stay within an epoch."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop


@HOOKS.register_module()
class WholeStepsHook(Hook):
    """With accumulated gradients no step takes batches of two epochs: the last of an epoch takes what is left of it,
    every batch with its weight. MMEngine counts through the epochs, so that those of a curriculum would mix, and a
    resumed run would lose the batches of the step that was open. Trainings counted in iterations stay MMEngine's.
    """

    def before_train_epoch(self, runner):
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            runner.optim_wrapper.initialize_count_status(runner.model, 0, len(runner.train_dataloader))
