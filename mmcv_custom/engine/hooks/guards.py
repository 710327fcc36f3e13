"""Hooks that end a training that cannot succeed with one sentence: a broken loss, a score that nothing computes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping

import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from ...errors import ConfigError

_COCO_AP = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")


def weights_are_finite(model: nn.Module) -> bool:
    """Return whether no parameter of ``model`` holds a NaN or an infinite value."""
    return all(bool(torch.isfinite(p).all()) for p in model.parameters())


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop a training whose loss is NaN or infinite in ``steps`` successive iterations, or whose weights became so.

    The count stays on the device of the loss and is read every ``steps`` iterations, so that no iteration waits for it.
    Weights are tested at the end of each epoch and of the run. Checkpoints of broken weights are never written (see
    ``KeepingCheckpointHook``), so the last one in the work dir is good.

    Args:
        steps: iterations in a row that a loss may be broken for. Single ones occur in mixed precision.

    Raises:
        ConfigError: in every process alike.
    """

    def __init__(self, steps: int = 10) -> None:
        if steps < 1:
            raise ValueError(f"FiniteLossHook: steps is {steps}; it must be 1 or more")
        self.steps = steps
        self.broken: Tensor | None = None

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Count successive broken losses."""
        loss = (outputs or {}).get("loss")
        if not isinstance(loss, Tensor):
            return
        if self.broken is None:
            self.broken = loss.new_zeros((), dtype=torch.int64)
        self.broken = torch.where(torch.isfinite(loss.detach()).all(), 0, self.broken + 1)
        if (runner.iter + 1) % self.steps == 0 and self._most() >= self.steps:
            parts = [k for k, v in outputs.items() if isinstance(v, Tensor) and not bool(torch.isfinite(v).all())]
            named = f" ({', '.join(parts)})" if len(parts) > 1 else ""
            self._stop(
                runner, runner.iter + 1, f"the loss{named} has not been finite for {self.steps} iterations or more"
            )

    def after_train_epoch(self, runner):
        """Test the weights."""
        if not weights_are_finite(runner.model):
            self._stop(runner, runner.iter, "weights of the model are not finite any more")
        if self.broken is not None and self._most() >= min(self.steps, runner.max_iters):
            self._stop(runner, runner.iter, "the loss has not been finite for many iterations")

    def _most(self) -> int:
        count = self.broken.clone()
        all_reduce(count, op="max")
        return int(count)

    @staticmethod
    def _stop(runner, iteration, reason):
        last = runner.message_hub.runtime_info.get("last_ckpt")
        kept = f"{last} is from before" if last else "no checkpoint was written before"
        raise ConfigError(
            f"training stopped after iteration {iteration}: {reason}; {kept}. Lower the learning rate, clip "
            "gradients (optim_wrapper.clip_grad.max_norm=1) or look at the data"
        )


@HOOKS.register_module()
class ScoreNamesHook(Hook):
    """Refuse a ``save_best`` or ``monitor`` that names no score, before training where the scores are known.

    The names that an unknown evaluator gives are compared after its first evaluation.

    Raises:
        ConfigError: a hook or schedule waits for a score that no evaluator computes.
    """

    priority = "VERY_HIGH"  # before the hooks that look the score up

    def before_train(self, runner):
        """Compare with the scores that the evaluators of validation are known to give."""
        if runner.val_loop is None:
            return
        known = score_names(runner.val_loop.evaluator.metrics)
        if known is not None:
            _compare(runner, known)

    def after_val_epoch(self, runner, metrics=None):
        """Compare with the scores of an evaluation, unless their names are known without one."""
        if metrics and score_names(runner.val_loop.evaluator.metrics) is None:
            _compare(runner, metrics)


def score_names(metrics: Iterable[BaseMetric]) -> list[str] | None:
    """Return the names of the scores that ``metrics`` give, or None if one of them is of an unknown class."""
    names: list[str] = []
    for metric in metrics:
        own = _names(metric)
        if own is None:
            return None
        names += [f"{metric.prefix}/{name}" if metric.prefix else name for name in own]
    return names


def _names(metric):
    kind = type(metric).__name__
    if kind == "CocoMetric" and not {"proposal", "proposal_fast"} & {*metric.metrics}:
        if getattr(metric, "classwise", False) or getattr(metric, "format_only", False) or metric.metric_items:
            return None
        return [f"{what}_{score}" for what in metric.metrics for score in _COCO_AP]
    if kind == "IoUMetric" and {*metric.metrics} == {"mIoU"}:
        return ["aAcc", "mIoU", "mAcc"]
    if kind == "Accuracy" and not metric.thrs[0] and len(metric.thrs) == 1:
        return [f"top{k}" for k in metric.topk]
    return None


def _wanted(runner: Runner) -> Iterator[tuple[str, str]]:
    """Iterate over (what waits for it, name) of the scores that hooks and schedules wait for."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            yield from (("default_hooks.checkpoint.save_best", n) for n in hook.save_best or () if n != "auto")
        elif isinstance(getattr(hook, "monitor", None), str):
            yield f"{type(hook).__name__}.monitor", hook.monitor
    schedules = runner.param_schedulers
    for schedule in sum(schedules.values(), []) if isinstance(schedules, Mapping) else schedules or ():
        if isinstance(getattr(schedule, "monitor", None), str):
            yield f"param_scheduler {type(schedule).__name__}.monitor", schedule.monitor


def _compare(runner, names):
    for where, name in _wanted(runner):
        if name not in names and "loss" not in name:  # MMEngine adds the losses of validation
            ends = [n for n in names if n.split("/")[-1] == name.split("/")[-1]]
            close = ends or difflib.get_close_matches(name, list(names), n=1)
            meant = f"did you mean {close[0]}? It" if close else "it"
            raise ConfigError(f"{where} is {name}, which no evaluator computes: {meant} can be {', '.join(names)}")
