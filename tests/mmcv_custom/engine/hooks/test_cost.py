"""The reported cost of an evaluation equals the cost of what ran."""

import logging
import time
from types import SimpleNamespace

import pytest
import timm
import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import BaseDataElement
from torch import nn

import token_pruning
from mmcv_custom import CostHook
from mmcv_custom.engine.hooks.cost import Meter
from token_pruning.analysis.flops import block_flops

SIZES = dict(img_size=32, patch_size=8, embed_dim=32, depth=4, num_heads=2, num_classes=5)
DENSE = 4 * block_flops(17, 32) + 2 * (16 * 32 * 3 * 64 + 32 * 5)  # blocks, patch embedding, head


def network(reducer=None):
    torch.manual_seed(0)
    return token_pruning.apply(timm.create_model("deit_tiny_patch16_224", **SIZES), reducer).eval()


class Model(nn.Module):
    """Model of a runner."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, inputs, data_samples, mode):
        assert mode == "predict" and len(inputs) == len(data_samples)
        for sample, scores in zip(data_samples, self.backbone(inputs), strict=True):
            assert "pred" not in sample, "a prediction was overwritten"
            sample.pred = scores
        return data_samples

    def test_step(self, data):
        return self(**data, mode="predict")


class Views(BaseTTAModel):
    """Test-time augmentation, which is also a wrapper."""

    def merge_preds(self, data_samples_list):
        raise NotImplementedError


def evaluate(backbone, batches, hook, views=1, wrap=lambda model: model):
    """Return the scores and the log message of the hook.

    Args:
        batches: number of images in each batch.
        views: views of each image, with other pixels.
    """
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    model = Model(backbone)
    written = {}
    visualizer = SimpleNamespace(add_scalars=lambda scalars, step: written.update(scalars, step=step))
    runner = SimpleNamespace(model=wrap(model), logger=logger, visualizer=visualizer, _train_loop=None)
    metrics = {}
    hook.before_test_epoch(runner)
    for i, number in enumerate(batches):
        for view in range(views):
            images = torch.randn(number, 3, 32, 32, generator=torch.Generator().manual_seed(i + 100 * view))
            samples = [BaseDataElement(metainfo=dict(img_shape=(32, 32))) for _ in images]
            with torch.no_grad():
                model(inputs=images, data_samples=samples, mode="predict")
        hook.after_test_iter(runner, i)
    hook.after_test_epoch(runner, metrics)
    curves = {f"cost/keep_ratio.{block}": kept for block, kept in enumerate(metrics["cost/keep_ratio"])}
    assert written == dict(curves, step=0)
    return metrics, said[0]


def test_multiply_adds_and_kept_tokens_are_those_of_the_closed_formula():
    metrics, said = evaluate(network(), [4, 4], CostHook())
    assert metrics["cost/gmacs"] == pytest.approx(DENSE / 2e9) and metrics["cost/gmacs_std"] == 0
    assert metrics["cost/keep_ratio"] == [1, 1, 1, 1]
    assert "images/s" in said and "GMACs" in said and "a multiply-add is 1" in said and "1.00 1.00 1.00 1.00" in said
    pruned, _ = evaluate(network(dict(type="Random", blocks=[1, 2], keep_ratio=0.5)), [4, 4], CostHook())
    saved = 2 * (block_flops(17, 32) - block_flops(9, 32))
    assert pruned["cost/gmacs"] == pytest.approx((DENSE - saved) / 2e9)
    assert pruned["cost/keep_ratio"] == [1, 0.5, 0.5, 1]


def test_the_spread_is_over_single_images_of_the_first_batches():
    model = network(dict(type="SViT", blocks=[1, 2, 3], mode="threshold"))
    with torch.no_grad():  # random weights, so that images differ
        for selector in model.reducer.selectors:
            selector.mlp.fc2.weight.normal_()
    metrics, _ = evaluate(model, [3, 3, 3], CostHook(counted=5))
    counted = []
    for i, number in enumerate([3, 2]):
        images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(i))[:number]
        for image in images.split(1):
            with torch.no_grad(), token_pruning.count_flops() as flops:
                model(image)
            counted.append(flops.gmacs)
    counted = torch.tensor(counted, dtype=torch.float64)
    assert metrics["cost/gmacs"] == pytest.approx(counted.mean().item())
    assert metrics["cost/gmacs_std"] == pytest.approx(counted.std(correction=0).item()) and counted.std() > 0


def test_first_batches_and_the_odd_last_one_are_not_timed(monkeypatch):
    # The first batch takes 100, then one of its images is counted; the others take 100, 2, 4, 94.
    clock = iter([0, 100, 100, 100, 100, 200, 200, 202, 202, 206, 206, 300])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    metrics, said = evaluate(network(), [8, 8, 8, 8, 1], CostHook(skip=2, counted=1))
    assert metrics["cost/images_per_second"] == 16 / 6
    assert "in batches of 8 on cpu" in said


def test_one_batch_alone_is_run_again_to_be_timed():
    model = network()
    calls = []
    model.register_forward_hook(lambda *args: calls.append(1))
    metrics, _ = evaluate(model, [2], hook := CostHook(counted=1))
    assert len(calls) == 7 and metrics["cost/images_per_second"] > 0
    assert not hook.meter  # its hooks are removed


def test_counting_leaves_the_execution_as_it_was():
    model = network(dict(type="SViT", blocks=[1, 2]))
    model.execution = "capacity"
    metrics, _ = evaluate(model, [2, 2], CostHook())
    assert model.execution == "capacity" and 0 < metrics["cost/keep_ratio"][1] < 1


def test_several_views_of_an_image_are_counted_together_through_any_wrapper():
    model = network(dict(type="SViT", blocks=[1, 2, 3], mode="threshold"))
    once, _ = evaluate(model, [1, 1], CostHook(counted=1))
    twice, _ = evaluate(model, [1, 1], CostHook(counted=1), views=2, wrap=lambda model: nn.DataParallel(Views(model)))
    other = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(100))
    with torch.no_grad(), token_pruning.count_flops() as flops:
        model(other)
    assert twice["cost/gmacs"] == pytest.approx(once["cost/gmacs"] + flops.gmacs)


def test_a_backbone_that_replaced_its_forward_is_counted_by_its_own(monkeypatch):
    model = network(dict(type="SViT", blocks=[1, 2]))
    expected, _ = evaluate(model, [2, 2], CostHook())
    compiled = model.forward
    model.forward = lambda images: [torch.zeros(5)] * len(images)
    metrics, _ = evaluate(model, [2, 2], CostHook())
    assert metrics["cost/gmacs"] == expected["cost/gmacs"] and model.forward is not compiled


def test_other_backbones_are_left_alone():
    runner = SimpleNamespace(model=SimpleNamespace(backbone=nn.Identity()), logger=logging.Logger("test"))
    hook, metrics = CostHook(), {}
    hook.before_val_epoch(runner)
    hook.after_val_iter(runner, 0)
    hook.after_val_epoch(runner, metrics)
    assert metrics == {}


def test_predictions_are_not_held():
    model = Model(network())
    meter, samples = Meter(model), [BaseDataElement(metainfo=dict(img_shape=(32, 32)))]
    with torch.no_grad():
        model(inputs=torch.randn(1, 3, 32, 32), data_samples=samples, mode="predict")
    ((_, (kept,)),) = meter.calls
    assert "pred" in samples[0] and "pred" not in kept and kept.img_shape == (32, 32)
