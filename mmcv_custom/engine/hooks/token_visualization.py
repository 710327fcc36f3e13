"""Images of which tokens were kept, at every evaluation: how a selection changes while it is trained.

Shapes: B images of a batch, h x w pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor, nn

from token_pruning import Trace

from ..utils import unwrap_model
from .logging import evaluation_step


@HOOKS.register_module()
class TokenVisualizationHook(Hook):
    """Writes a sheet for each of the first images of every evaluation: what was found in it, which tokens each block
    computed, how many. They go to all ``vis_backends`` (TensorBoard: tab "Images") as ``tokens_1``, ``tokens_2``, ...

    The evaluation's own forward is watched, so there is no other, and nothing is watched once the images are had
    (with the defaults only in batches that CostHook does not time). Of several processes the main one shows its own
    first images; of several views of an image (test-time augmentation) the tokens are the first view's. Silent for
    dense models and where the backbone is none of this project's.

    Args:
        number: images of an evaluation; 0 switches it off.
        interval: only the first of every so many evaluations of a training, and the last of all.
        score: detections from this score on are drawn.
    """

    def __init__(self, number: int = 2, interval: int = 1, score: float = 0.3) -> None:
        self.number, self.interval, self.score = number, interval, score
        self.evaluations, self.left, self.recorder = 0, 0, None  # so far; images still wanted; eyes on this batch

    def before_val_epoch(self, runner) -> None:
        backbone = getattr(unwrap_model(runner.model), "backbone", None)
        prunes = hasattr(backbone, "execution") and backbone.reducer is not None
        last = evaluation_step(runner) and runner.iter >= runner.max_iters
        due = self.evaluations % self.interval == 0 or last
        self.left = self.number if prunes and due and is_main_process() else 0
        self.evaluations += 1
        if self.left and "forward" in vars(backbone):  # compiled, or captured under our eyes
            self._give_up(runner)

    before_test_epoch = before_val_epoch

    def before_val_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.recorder = TokenRecorder(unwrap_model(runner.model)) if self.left else None

    before_test_iter = before_val_iter

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if not self.left:
            return
        from ...inference.predictor import result_of, token_view

        watch, self.recorder = self.recorder, None
        watch.close()
        if not watch.trace.passes:
            self._give_up(runner)
            return
        classes = tuple((runner.visualizer.dataset_meta or {}).get("classes") or ())
        for i, (inputs, sample) in enumerate(zip(first_view(data_batch["inputs"]), outputs, strict=True)):
            if self.left:
                tokens = token_view(watch.model, inputs, [seen.of(i) for seen in watch.trace.passes], watch.size)
                image, path = photograph(sample, tokens.image), sample.get("img_path")
                result = result_of(image=image, path=path, classes=classes, sample=sample.cpu(), tokens=tokens)
                self._write(runner, result)
                self.left -= 1

    after_test_iter = after_val_iter

    def _give_up(self, runner) -> None:
        runner.logger.info("no images of tokens: a backbone that is compiled or replayed does not record them")
        self.left = 0

    def _write(self, runner, result) -> None:
        from ...inference.results import Detection

        step = evaluation_step(runner)
        found = result.above(self.score) if isinstance(result, Detection) else result
        title = ", ".join(([Path(result.path).name] if result.path else []) + ([f"step {step}"] if step else []))
        sheet = result.tokens.contact_sheet(found.draw(), title)
        # MLflow tells the format by the name's end.
        end = ".png" if runner.visualizer.get_backend("MLflowVisBackend") else ""
        runner.visualizer.add_image(f"tokens_{self.number - self.left + 1}{end}", np.asarray(sheet), step)


class TokenRecorder:
    """Traces the next forward of ``model`` and is gone from it afterwards.

    Attributes:
        trace: of that forward.
        size: (h, w) of its inputs, padding included.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.trace, self.size = model, Trace(), None
        self.handles = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, always_call=True),
        ]

    def _before(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        self.size = tuple(kwargs["inputs"].shape[-2:])
        self.trace.__enter__()

    def _after(self, model: nn.Module, args: tuple, outputs: object) -> None:
        self.trace.__exit__(None, None, None)
        self.close()

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


def first_view(inputs: Tensor | list) -> Tensor | list[Tensor]:
    """B images (3, h, w) of a batch as a data loader gives it; of test-time augmentation, in its first view."""
    nested = isinstance(inputs[0], (list, tuple)) or inputs[0].ndim == 4
    return inputs[0] if nested else inputs


def photograph(sample: object, seen: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 RGB in the size that the results of ``sample`` are in: the file where there is one, else what the
    network has ``seen``, resized."""
    import mmcv

    path, size = sample.get("img_path"), tuple(sample.get("ori_shape") or seen.shape)[:2]
    image = mmcv.imread(path, channel_order="rgb") if path and Path(path).is_file() else seen
    return image if image.shape[:2] == size else mmcv.imresize(image, size[::-1])
