"""The average starts from the loaded weights, follows its formula, is restored on resume, and is evaluated."""

import os

import pytest
import timm
import torch
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample
from torch import nn

from mmcv_custom import PruningRunner
from mmpretrain_custom import EMAFromWeightsHook

SIZES = dict(img_size=16, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=5)
MOMENTUM = 0.1


class Data(torch.utils.data.Dataset):
    metainfo = {}

    def __len__(self):
        return 4

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        return dict(inputs=torch.rand(3, 16, 16, generator=generator), data_samples=DataSample().set_gt_label(i))


class Weights(Hook):
    """Hook that records the weights after every iteration, and those that were evaluated."""

    priority = "LOWEST"

    def __init__(self):
        self.raw, self.evaluated = [], []

    def before_train(self, runner):
        self.start = state(runner.model)

    def after_train_iter(self, runner, *args, **kwargs):
        self.raw.append(state(runner.model))

    def after_val_iter(self, runner, *args, **kwargs):
        self.evaluated.append(state(runner.model))

    after_test_iter = after_val_iter


def state(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def run(work_dir, epochs=2, **options):
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    loader = dict(dataset=Data(), batch_size=2, collate_fn=dict(type="default_collate"))
    ema, weights = EMAFromWeightsHook(momentum=MOMENTUM), Weights()
    runner = PruningRunner(
        model=dict(
            type="PrunedClassifier",
            backbone=dict(
                type="TimmViT", model_name="deit_tiny_patch16_224", reducer=dict(type="SViT", blocks=[1]), **SIZES
            ),
        ),
        work_dir=str(work_dir),
        train_dataloader=dict(loader, sampler=dict(type="DefaultSampler", shuffle=False)),
        val_dataloader=dict(loader, sampler=dict(type="DefaultSampler", shuffle=False)),
        val_cfg=dict(),
        test_dataloader=dict(loader, sampler=dict(type="DefaultSampler", shuffle=False)),
        test_cfg=dict(),
        val_evaluator=dict(type="Accuracy"),
        test_evaluator=dict(type="Accuracy"),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1), logger=None),
        custom_hooks=[dict(type="SeedByIterHook"), ema, weights],
        randomness=dict(seed=0),
        default_scope="mmpretrain",
        experiment_name=os.urandom(4).hex(),
        **options,
    )
    return runner, ema, weights


@pytest.fixture
def published(tmp_path):
    """Save a file like DeiT's: with other names than the model's, and head and position table of another size."""
    torch.manual_seed(5)
    model = timm.create_model("deit_tiny_patch16_224", **dict(SIZES, num_classes=7, img_size=32))
    nn.init.normal_(model.pos_embed)
    torch.save(dict(model=model.state_dict()), tmp_path / "published.pth")
    return model, str(tmp_path / "published.pth")


def test_the_average_starts_from_the_published_weights_and_follows_its_formula(tmp_path, published):
    source, file = published
    runner, ema, weights = run(tmp_path, load_from=file)
    runner.train()
    start = weights.start
    assert torch.equal(start["backbone.blocks.1.mlp.fc1.weight"], source.blocks[1].mlp.fc1.weight)
    average = start
    for step, raw in enumerate(weights.raw):
        average = {k: v + MOMENTUM * (raw[k] - v) for k, v in average.items()}
        if step == 1:
            evaluated = average
    for name, value in state(ema.ema_model.module).items():
        torch.testing.assert_close(value, average[name], atol=1e-6, rtol=1e-5)
    for name, value in weights.evaluated[0].items():
        torch.testing.assert_close(value, evaluated[name], atol=1e-6, rtol=1e-5)
    assert equal(state(runner.model), weights.raw[-1])  # training continues with the raw weights


def test_a_resumed_run_goes_on_with_weights_and_average(tmp_path):
    whole, whole_ema, _ = run(tmp_path / "whole", epochs=3)
    whole.train()
    run(tmp_path / "part", epochs=2)[0].train()
    file = str(tmp_path / "part" / "epoch_2.pth")
    runner, ema, weights = run(tmp_path / "part", epochs=3, load_from=file, resume=True)
    runner.train()
    assert len(weights.raw) == 2
    assert equal(state(runner.model), state(whole.model))
    assert equal(state(ema.ema_model), state(whole_ema.ema_model))


def test_a_file_evaluates_as_the_average_that_it_holds(tmp_path):
    runner, ema, _ = run(tmp_path, epochs=1)
    runner.train()
    average = state(ema.ema_model.module)
    tested, _, weights = run(tmp_path / "test", load_from=str(tmp_path / "epoch_1.pth"))
    tested.test()
    assert len(weights.evaluated) == 2 and all(equal(w, average) for w in weights.evaluated)


def test_a_file_without_an_average_evaluates_as_it_is(tmp_path, published):
    source, file = published
    runner, _, weights = run(tmp_path, load_from=file)
    runner.test()
    assert torch.equal(weights.evaluated[0]["backbone.blocks.0.attn.qkv.weight"], source.blocks[0].attn.qkv.weight)


def test_a_run_without_an_average_that_is_resumed_with_one_starts_it_from_its_weights(tmp_path):
    runner, _, _ = run(tmp_path, epochs=1)
    runner.train()
    file = torch.load(tmp_path / "epoch_1.pth", weights_only=False)
    file.pop("ema_state_dict")
    torch.save(file, tmp_path / "epoch_1.pth")
    resumed, ema, weights = run(tmp_path, epochs=2, load_from=str(tmp_path / "epoch_1.pth"), resume=True)
    resumed.train()
    assert equal(weights.start, file["state_dict"])
    name = "backbone.head.weight"
    average = weights.start[name] + MOMENTUM * (weights.raw[0][name] - weights.start[name])
    average += MOMENTUM * (weights.raw[1][name] - average)
    torch.testing.assert_close(ema.ema_model.module.state_dict()[name], average, atol=1e-6, rtol=1e-5)
