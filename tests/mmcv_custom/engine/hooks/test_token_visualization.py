"""The hook's sheets equal the Predictor's for the same images, and come from the evaluation's own forward."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import LoggerHook
from mmengine.runner.loops import BaseLoop
from PIL import Image

from mmcv_custom import Predictor, TokenVisualizationHook
from mmcv_custom.data.synthetic import scene
from mmcv_custom.engine.hooks.logging import evaluation_step
from mmcv_custom.engine.hooks.token_visualization import first_view

ROOT = Path(__file__).resolve().parents[4] / "configs"
CONFIGS = {
    "detector": (ROOT / "quickstart/digits_svit-adapter-nano.py", (64, 96)),
    "segmentor": (ROOT / "segmentation/vit-nano-svit_linear_camvid-352.py", (96, 64)),
    "classifier": (ROOT / "deit/digits/evit_deit-nano_digits.py", (32, 32)),
}
pytestmark = pytest.mark.filterwarnings("ignore:.*random weights", "ignore:.*default scope")


class Recorder:
    """The part of a runner that the hook uses."""

    def __init__(self, model, classes=(), step=0):
        self.model, self.images, self.said = model, {}, []
        self.visualizer = SimpleNamespace(
            dataset_meta=dict(classes=classes), add_image=self._add_image, get_backend=lambda name: None
        )
        self.logger = SimpleNamespace(info=self.said.append)
        self.hooks, self.epoch, self.iter, self.max_iters = [], step, 10 * step, 50
        self._train_loop = BaseLoop.__new__(LoopStub) if step else None

    def _add_image(self, name, image, step):
        self.images[name, step] = image


class LoopStub(BaseLoop):
    def run(self):
        raise AssertionError


def evaluate(hook, runner, batches):
    """Evaluate as MMEngine's ValLoop does, with a further forward after every batch, as CostHook runs."""
    hook.before_val_epoch(runner)
    for i, data in enumerate(batches):
        hook.before_val_iter(runner, i, data)
        with torch.no_grad():
            outputs = runner.model.val_step(data)
            hook.after_val_iter(runner, i, data, outputs)
            runner.model.val_step(data)


@pytest.fixture(scope="module", params=CONFIGS)
def predicted(request, tmp_path_factory):
    """Return a Predictor, four image files, and their batches of two as a data loader makes them."""
    config, size = CONFIGS[request.param]
    predictor, folder = Predictor(config), tmp_path_factory.mktemp("images")
    files = [folder / f"{i}.png" for i in range(4)]
    for i, file in enumerate(files):
        Image.fromarray(scene(*size, i)).save(file)
    packed = [predictor._prepare(str(file)).packed for file in files]
    return predictor, files, [pseudo_collate(packed[:2]), pseudo_collate(packed[2:])]


def test_sheets_equal_the_predictors_and_no_hook_stays_on_the_model(predicted):
    predictor, files, batches = predicted
    runner, forwards = Recorder(predictor.model, predictor.classes), []
    handle = predictor.model.backbone.register_forward_hook(lambda *args: forwards.append(1))
    evaluate(TokenVisualizationHook(number=3), runner, batches)
    handle.remove()
    assert len(forwards) == 4 and not predictor.model._forward_hooks and not predictor.model._forward_pre_hooks
    assert list(runner.images) == [("tokens_1", 0), ("tokens_2", 0), ("tokens_3", 0)]
    for file, sheet in zip(files, runner.images.values(), strict=False):
        result = predictor(file)
        result = result.above(0.3) if hasattr(result, "boxes") else result
        expected = np.asarray(result.tokens.contact_sheet(result.draw(), file.name))
        # Scores in batches of two differ in the last digits, which may change a printed score.
        assert sheet.dtype == np.uint8 and sheet.shape == expected.shape and (sheet != expected).mean() < 0.01
    assert not np.array_equal(runner.images["tokens_1", 0], runner.images["tokens_2", 0])


@pytest.fixture(scope="module")
def segmentor(tmp_path_factory):
    predictor = Predictor(CONFIGS["segmentor"][0])
    packed = predictor._prepare(scene(96, 64)).packed
    return predictor, [pseudo_collate([packed])]


def test_an_image_without_a_file_is_taken_from_the_networks_input(segmentor):
    predictor, batches = segmentor
    evaluate(TokenVisualizationHook(), runner := Recorder(predictor.model), batches)
    assert list(runner.images) == [("tokens_1", 0)]


def test_names_for_mlflow_have_the_suffix_of_the_format(segmentor):
    predictor, batches = segmentor
    runner = Recorder(predictor.model)
    runner.visualizer.get_backend = dict(MLflowVisBackend=object()).get
    evaluate(TokenVisualizationHook(), runner, batches)
    assert list(runner.images) == [("tokens_1.png", 0)]


def test_interval_skips_evaluations_but_not_the_last(segmentor):
    predictor, batches = segmentor
    hook, written = TokenVisualizationHook(interval=3), []
    for epoch in range(1, 6):
        evaluate(hook, runner := Recorder(predictor.model, step=epoch), batches)
        written += [step for _, step in runner.images]
    assert written == [1, 4, 5]


@pytest.mark.parametrize("reason", ["off", "dense", "other process", "other backbone"])
def test_silent(segmentor, monkeypatch, reason):
    predictor, batches = segmentor
    hook, model = TokenVisualizationHook(number=0 if reason == "off" else 2), predictor.model
    if reason == "other process":
        monkeypatch.setattr("mmcv_custom.engine.hooks.token_visualization.is_main_process", lambda: False)
    elif reason in ("dense", "other backbone"):
        backbone = SimpleNamespace(execution="exact", reducer=None) if reason == "dense" else torch.nn.Identity()
        model = SimpleNamespace(backbone=backbone, val_step=lambda data: data["data_samples"])
    evaluate(hook, runner := Recorder(model), batches)
    assert not runner.images and not runner.said and hook.recorder is None


@pytest.mark.parametrize("place", ["backbone", "model"])
def test_a_forward_without_a_trace_is_reported_once(segmentor, monkeypatch, place):
    """A backbone whose forward was replaced is not traced: a CUDA graph would be captured with the recording."""
    from token_pruning.analysis.trace import active_traces

    predictor, batches = segmentor
    with torch.no_grad():
        outputs = predictor.model.val_step(batches[0])
        maps = predictor.model.backbone(torch.zeros(1, 3, 96, 64))
    traces = []
    replayed = maps if place == "backbone" else outputs
    part = predictor.model.backbone if place == "backbone" else predictor.model
    monkeypatch.setattr(part, "forward", lambda *args, **kwargs: traces.append(active_traces()) or replayed)
    evaluate(TokenVisualizationHook(), runner := Recorder(predictor.model), batches * 2)
    assert not runner.images and len(runner.said) == 1 and "compiled" in runner.said[0]
    assert any(traces) == (place == "model")


def test_an_interrupted_forward_ends_the_trace(segmentor, monkeypatch):
    from token_pruning.analysis.trace import active_traces

    predictor, batches = segmentor
    monkeypatch.setattr(predictor.model, "forward", lambda **data: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(TokenVisualizationHook(), Recorder(predictor.model), batches)
    assert active_traces() == () and not predictor.model._forward_hooks


def test_first_view_of_batches():
    one = torch.zeros(3, 4, 4)
    assert first_view([one, one + 1])[1].mean() == 1
    assert first_view(torch.stack([one, one + 1]))[1].mean() == 1
    assert first_view([[one, one + 1], [one + 2, one + 3]])[1].mean() == 1


def test_steps_equal_those_of_the_scores():
    runner = Recorder(None, step=3)
    runner.hooks = [LoggerHook()]
    assert evaluation_step(runner) == 3
    runner.hooks = [LoggerHook(log_metric_by_epoch=False)]
    assert evaluation_step(runner) == 30
    assert evaluation_step(Recorder(None)) == 0
