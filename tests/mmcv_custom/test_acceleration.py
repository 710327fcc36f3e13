"""What makes a detector faster leaves its outputs as they are."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from mmcv_custom.acceleration import accelerate, channels_last, compile_backbone, graph_backbone
from mmcv_custom.errors import ConfigError
from mmdet_custom import ViTAdapter

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
def test_channels_last_and_folded_norms_change_no_number(reducer):
    wanted = Detector(reducer)(image())
    for steps in (["channels_last"], ["fuse_conv_bn"], ["channels_last", "fuse_conv_bn"]):
        model = Detector(reducer)
        accelerate(model, steps)
        out = model(image())
        same(out, wanted)
        assert all(m.is_contiguous() for m in out)  # what MMCV's RoIAlign on CPU needs
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.backbone.spm.modules())


@torch.no_grad()
def test_outputs_of_a_backbone_alone_are_contiguous():
    assert all(m.is_contiguous() for m in Detector().backbone(image()))


@torch.no_grad()
def test_compiled_backbone_equals_the_exact_one():
    torch._dynamo.reset()
    model = Detector()
    wanted = model(image())
    compile_backbone(model, backend="aot_eager")
    same(model(image()), wanted)


def test_steps_ask_for_what_they_need():
    with pytest.raises(ConfigError, match="--cuda-graph needs a CUDA device"):
        graph_backbone(Detector())
    model = nn.Module()
    model.backbone = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match="--channels-last is for detectors with a ViT backbone .* has Linear"):
        channels_last(model)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_memory_is_kept_where_glibc_is():
    code = "from mmcv_custom.acceleration import keep_memory; assert keep_memory(); import torch; torch.ones(1 << 25)"
    subprocess.run([sys.executable, "-c", code], check=True)


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
    assert len(model.backbone.forward.graphs) == 2
