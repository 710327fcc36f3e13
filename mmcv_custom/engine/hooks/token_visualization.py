"""Images of the kept tokens at every evaluation, which show how the selection changes during training.

Shapes: B images of a batch, h x w pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from token_pruning import Trace
from token_pruning.host import is_host
from token_pruning.patching import is_patched

from ..utils import unwrap_model
from .logging import evaluation_step


@HOOKS.register_module()
class TokenVisualizationHook(Hook):
    """Write a contact sheet for each of the first images of every evaluation.

    A sheet shows the prediction, the tokens that each block computed, and their number. Sheets go to all
    ``vis_backends`` (TensorBoard: tab "Images") as ``tokens_1``, ``tokens_2``, ...

    The evaluation's own forward is traced, so no further forward runs, and tracing stops once the images are taken
    (with the defaults, CostHook does not time these batches). With several processes, the main one shows its own first
    images; with test-time augmentation, the tokens are those of the first view. Dense models and backbones that are not
    of this project are skipped.

    Args:
        number: images per evaluation; 0 switches the hook off.
        interval: write sheets only in every ``interval``-th evaluation of a training, and in the last.
        score: detections with at least this score are drawn.
    """

    def __init__(self, number: int = 2, interval: int = 1, score: float = 0.3) -> None:
        self.number, self.interval, self.score = number, interval, score
        self.evaluations = 0  # so far
        self.left = 0  # images still to be written in this evaluation
        self.recorder: TokenRecorder | None = None  # of the current batch

    def before_val_epoch(self, runner) -> None:
        backbone = getattr(unwrap_model(runner.model), "backbone", None)
        prunes = is_host(backbone) and backbone.reducer is not None
        last = evaluation_step(runner) and runner.iter >= runner.max_iters
        due = self.evaluations % self.interval == 0 or last
        self.left = self.number if prunes and due and is_main_process() else 0
        self.evaluations += 1
        if self.left and is_patched(backbone, "forward"):  # compiled or captured
            self._give_up(runner)

    before_test_epoch = before_val_epoch

    def before_val_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.recorder = TokenRecorder(unwrap_model(runner.model)) if self.left else None

    before_test_iter = before_val_iter

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if not self.left:
            return
        from ...inference.predictor import token_view
        from ...inference.results import result_of

        recorder, self.recorder = self.recorder, None
        recorder.close()
        if not recorder.trace.passes:
            self._give_up(runner)
            return
        classes = tuple((runner.visualizer.dataset_meta or {}).get("classes") or ())
        for i, (inputs, sample) in enumerate(zip(first_view(data_batch["inputs"]), outputs, strict=True)):
            if self.left:
                passes = [batch_pass.of(i) for batch_pass in recorder.trace.passes]
                tokens = token_view(recorder.model, inputs, passes, recorder.size)
                image, path = image_of(sample, tokens.image), sample.get("img_path")
                result = result_of(sample.cpu(), image=image, path=path, classes=classes, tokens=tokens)
                self._write(runner, result)
                self.left -= 1

    after_test_iter = after_val_iter

    def _give_up(self, runner) -> None:
        runner.logger.info("no images of tokens: a backbone that is compiled or replayed does not record them")
        self.left = 0

    def _write(self, runner, result) -> None:
        step = evaluation_step(runner)
        found = result.above(self.score)
        title = ", ".join(([Path(result.path).name] if result.path else []) + ([f"step {step}"] if step else []))
        sheet = result.tokens.contact_sheet(found.draw(), title)
        # MLflow takes the format from the name's suffix.
        end = ".png" if runner.visualizer.get_backend("MLflowVisBackend") else ""
        runner.visualizer.add_image(f"tokens_{self.number - self.left + 1}{end}", np.asarray(sheet), step)


class TokenRecorder:
    """Trace the next forward of ``model``, then detach.

    Attributes:
        trace: the trace of that forward.
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
    """Return the B images (3, h, w) of a data loader's batch; with test-time augmentation, those of the first view."""
    nested = isinstance(inputs[0], (list, tuple)) or inputs[0].ndim == 4
    return inputs[0] if nested else inputs


def image_of(sample: BaseDataElement, network_input: np.ndarray) -> np.ndarray:
    """Return the image (h, w, 3), uint8 RGB, in the size of the results of ``sample``.

    It is read from the file if there is one; otherwise it is ``network_input``, resized.
    """
    import mmcv

    path, size = sample.get("img_path"), tuple(sample.get("ori_shape") or network_input.shape)[:2]
    image = mmcv.imread(path, channel_order="rgb") if path and Path(path).is_file() else network_input
    return image if image.shape[:2] == size else mmcv.imresize(image, size[::-1])
