"""What cannot record a pruned forward says so in one sentence; what can gives the same numbers."""

import io

import pytest
import timm
import torch
from reducers import DEPTH, DIM, reduced
from timm.models.vision_transformer import VisionTransformer

import token_pruning
from token_pruning import METHODS, PlainViT, SettingError


def model(reducer=None, **kwargs):
    torch.manual_seed(0)
    host = VisionTransformer(img_size=48, patch_size=8, embed_dim=DIM, depth=DEPTH, num_heads=3, num_classes=5).eval()
    return token_pruning.apply(host, reducer and reduced(reducer, grid=36), **kwargs)


def images(batch=2):
    return torch.randn(batch, 3, 48, 48, generator=torch.Generator().manual_seed(1))


def onnx(host):
    torch.onnx.export(host, (images(),), io.BytesIO(), dynamo=False)


TOOLS = {
    "torch.jit.trace, and torch.onnx.export with dynamo=False": [lambda m: torch.jit.trace(m, images()), onnx],
    "torch.jit.script": [torch.jit.script],
    "torch.fx": [
        torch.fx.symbolic_trace,
        lambda m: timm.models._features_fx.create_feature_extractor(m, ["blocks.1"]),
    ],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reducer", [None, dict(type="ToMe"), dict(type="SViT")], ids=["none", "ToMe", "SViT"])
@torch.no_grad()
def test_tools_that_cannot_record_are_refused_at_once(reducer):
    for name, tools in TOOLS.items():
        for tool in tools:
            with pytest.raises(SettingError, match=f"^{name}.*token_pruning.remove") as raised:
                tool(model(reducer))
            assert "\n" not in str(raised.value)
    assert torch.jit.trace(token_pruning.remove(model(reducer)), images())(images(3)).shape == (3, 5)


@pytest.mark.filterwarnings("ignore")
def test_a_host_of_ones_own_is_refused_too():
    vit = PlainViT(img_size=48, patch_size=8, embed_dim=DIM, depth=2, num_heads=3).eval()
    with pytest.raises(SettingError, match=r"torch\.jit\.script"):
        torch.jit.script(vit)
    vit.forward = lambda image: vit.start(image).finish()
    with pytest.raises(SettingError, match=r"torch\.jit\.trace"):
        torch.jit.trace(vit, images())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["Eva", "DeiT with distillation", "registers"])
@torch.no_grad()
def test_other_models_of_timm_are_refused_too(kind):
    name, options = {
        "Eva": ("eva02_tiny_patch14_224", dict(img_size=28)),
        "DeiT with distillation": ("deit_tiny_distilled_patch16_224", dict(img_size=48)),
        "registers": ("vit_small_patch14_reg4_dinov2", dict(img_size=28)),
    }[kind]
    host = token_pruning.apply(timm.create_model(name, depth=1, **options).eval(), None)
    image = torch.randn(1, 3, options["img_size"], options["img_size"])
    for tool, record in {
        "trace": lambda: torch.jit.trace(host, image),
        "script": lambda: torch.jit.script(host),
    }.items():
        with pytest.raises(SettingError, match=rf"^torch\.jit\.{tool}"):
            record()


# Each export takes a second: of the methods with fixed shapes, two that were refused or failed.
@pytest.mark.parametrize("name", ["ATS", "DToP", "Random", "SViT"])
@torch.no_grad()
def test_exports_or_says_why_not(name):
    pruned = model(dict(type=name))
    if not METHODS[name].fixed_shapes or name == "SViT":
        with pytest.raises(SettingError, match=f"torch.export needs .*, and {name} keeps more in some than in others"):
            torch.export.export(pruned, (images(),))
    if METHODS[name].fixed_shapes:
        pruned.execution = "capacity"
        program = torch.export.export(pruned, (images(),)).module()
        torch.testing.assert_close(program(images().flip(0)), pruned(images().flip(0)))
