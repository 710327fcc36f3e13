"""Acceleration does not change the outputs of a detector."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from mmcv_custom.engine import acceleration
from mmcv_custom.engine.acceleration import accelerate, channels_last, compile_backbone, graph_backbone
from mmcv_custom.errors import ConfigError
from mmdet_custom import ViTAdapter
from token_pruning.patching import patch_method

SIZES = dict(img_size=64, embed_dim=48, depth=4, num_heads=3, interaction_indexes=((0, 1), (2, 3)), conv_inplane=16)
SVIT = dict(type="SViT", blocks=[1, 2, 3], keep_ratio=0.5, capacity_scale=2.0)


class Detector(nn.Module):
    """A backbone and a neck, as a detector has them."""

    def __init__(self, reducer=SVIT):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = ViTAdapter(**SIZES, reducer=reducer)
        self.neck = Neck()
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):  # as after training
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2)
        self.eval()

    def forward(self, image):
        return self.neck(self.backbone(image))


class Neck(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(48, 8, 3, padding=1) for _ in range(4))

    def forward(self, maps):
        return tuple(conv(m) for conv, m in zip(self.convs, maps, strict=True))


def image(batch=2, height=90, width=130):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def same(ours, wanted, tolerance=1e-4):
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("reducer", [None, SVIT], ids=["dense", "pruned"])
@torch.no_grad()
def test_channels_last_and_folded_norms_do_not_change_outputs(reducer):
    wanted = Detector(reducer)(image())
    for steps in (["channels_last"], ["fuse_conv_bn"], ["channels_last", "fuse_conv_bn"]):
        model = Detector(reducer)
        accelerate(model, steps)
        out = model(image())
        same(out, wanted)
        assert all(m.is_contiguous(memory_format=torch.channels_last) for m in out)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.backbone.spm.modules())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize(
    "reducer",
    [
        None,
        SVIT,
        dict(type="Random", blocks=[1, 2], keep_ratio=0.5),
        dict(SVIT, mode="sample", seed=1),
        dict(SVIT, mode="ratio"),
    ],
    ids=["dense", "target", "Random", "sample", "ratio"],
)
@torch.no_grad()
def test_compiled_backbone_equals_the_exact_one(reducer, device):
    torch._dynamo.reset()
    model = Detector(reducer).to(device)
    wanted = model(image().to(device))
    compile_backbone(model, backend="aot_eager")
    same(model(image().to(device)), wanted)


@torch.no_grad()
def test_further_sizes_and_other_settings(monkeypatch):
    monkeypatch.setattr(acceleration, "MAX_SIZES", 2)
    model, plain = Detector(), Detector()
    prepared = []
    model.backbone.forward = acceleration.PerSize(
        model.backbone, lambda forward, image: prepared.append(tuple(image.shape)) or forward
    )
    for size in ((1, 32, 32), (1, 64, 32), (1, 32, 32)):
        same(model(image(*size)), plain(image(*size)))
    with pytest.warns(UserWarning, match="for 2 sizes of images, further ones run as usual; pad images to fewer"):
        same(model(image(1, 64, 64)), plain(image(1, 64, 64)))
    assert prepared == [(1, 3, 32, 32), (1, 3, 64, 32)]
    model.backbone.forward.ready.clear()
    model(image(1, 32, 32))
    model.backbone.reducer.ratio_scale = 0.5
    model(image(1, 32, 32))
    assert len(prepared) == 4


@torch.no_grad()
def test_a_setting_that_is_a_list_prepares_the_backbone_again():
    model, plain = Detector(reducer := dict(SVIT, keep_ratio=[0.9, 0.5, 0.5])), Detector(reducer)
    prepared = []
    patch_method(
        model.backbone,
        "forward",
        acceleration.PerSize(model.backbone, lambda forward, image: prepared.append(1) or forward),
    )
    for first in (0.9, 0.2, 0.2, 0.9):
        for host in (model, plain):
            host.backbone.reducer.keep_ratio[0] = first
        same(model(image()), plain(image()))
    assert len(prepared) == 2


def test_steps_refuse_models_that_do_not_support_them():
    with pytest.raises(ConfigError, match="--cuda-graph needs a CUDA device"):
        graph_backbone(Detector())
    model = nn.Module()
    model.backbone = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match="there is no step 'channel_last'; choose from fuse_conv_bn, channels_last"):
        accelerate(Detector(), ["channel_last"])
    with pytest.raises(ConfigError, match="--channels-last is for models with a ViT backbone .* has Linear"):
        channels_last(model)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_glibc_keeps_freed_memory():
    """After a few tensors of a size, the next one reuses memory: 128 MiB from the system are 32768 page faults."""
    code = (
        "import resource, torch; from mmcv_custom.engine.acceleration import keep_memory; print(keep_memory())\n"
        "for _ in range(20): torch.ones(1 << 25)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "torch.ones(1 << 25)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )

    def said(**environment):
        return subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=os.environ | environment
        ).stdout.split()

    kept, faults = said(KEEP_MEMORY="1")
    assert kept == "True" and int(faults) < 1000
    assert said(KEEP_MEMORY="0")[0] == "False"


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_graphed_backbone_equals_the_exact_one_at_every_size(dtype):
    model = Detector().cuda()
    sizes = [(2, 90, 130), (1, 64, 64), (2, 90, 130)]
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        wanted = [[m.clone() for m in model(image(*size).cuda())] for size in sizes]
        graph_backbone(model)
        for size, maps in zip(sizes, wanted, strict=True):
            same(model(image(*size).cuda()), maps, 1e-3 if dtype == torch.float32 else 1e-1)
    assert len(model.backbone.forward.ready) == 2
