"""An average of the weights that starts from the weights."""

from __future__ import annotations

from mmpretrain.engine.hooks import EMAHook
from mmpretrain.registry import HOOKS


@HOOKS.register_module()
class EMAFromWeightsHook(EMAHook):
    """mmpretrain's hook, except for where the average starts.

    Theirs is filled from the raw file, whose names and shapes need not be the model's, and begins anew after the first
    step. This one is a copy of the model as it stands when the loop begins, with everything that was loaded in it, and
    averages from the first step on; a resumed run goes on with the average that was saved. Evaluation is of the
    average, and the saved ``state_dict`` holds it.

    Args:
        kwargs: as theirs; ``momentum`` is 1 - decay: 4e-5 for a decay of 0.99996.
    """

    _started = False

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """A resumed run gets back weights and average."""
        if runner._resume and "ema_state_dict" in checkpoint:
            super().after_load_checkpoint(runner, checkpoint)
            self._started = True

    def before_train(self, runner) -> None:
        super().before_train(runner)
        self._start()

    def before_val(self, runner) -> None:
        self._start()

    def before_test(self, runner) -> None:
        self._start()

    def _start(self) -> None:
        if not self._started:
            self.ema_model.module.load_state_dict(self.src_model.state_dict())
            self.ema_model.steps.fill_(1)  # at 0 it would take the weights after the first step for its start
            self._started = True
