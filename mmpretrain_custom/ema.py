"""An exponential moving average of the weights that is initialised from the weights."""

from __future__ import annotations

from mmengine.runner import Runner
from mmpretrain.engine.hooks import EMAHook
from mmpretrain.registry import HOOKS


@HOOKS.register_module()
class EMAFromWeightsHook(EMAHook):
    """mmpretrain's ``EMAHook`` with another start of the average.

    mmpretrain fills the average from the raw checkpoint file, whose names and shapes need not be the model's, and
    restarts it after the first step. Here the average starts as a copy of the model at the beginning of the loop, with
    all loaded weights, and averages from the first step on; a resumed run continues with the saved average. The average
    is what is evaluated, and what the saved ``state_dict`` holds.

    Args:
        kwargs: arguments of ``EMAHook``; ``momentum`` is 1 - decay: 4e-5 for a decay of 0.99996.
    """

    _started = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore weights and average of a resumed run."""
        if runner._resume and "ema_state_dict" in checkpoint:
            super().after_load_checkpoint(runner, checkpoint)
            self._started = True

    def before_train(self, runner: Runner) -> None:
        """Start the average."""
        super().before_train(runner)
        self._start()

    def before_val(self, runner: Runner) -> None:
        """Start the average."""
        self._start()

    def before_test(self, runner: Runner) -> None:
        """Start the average."""
        self._start()

    def _start(self) -> None:
        if not self._started:
            self.ema_model.module.load_state_dict(self.src_model.state_dict())
            self.ema_model.steps.fill_(1)  # at 0 the average would restart after the first step
            self._started = True
