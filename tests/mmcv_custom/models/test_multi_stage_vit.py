"""The plain ViT backbone of segmentors. Shapes: B images, h x w pixels, C channels."""

import pytest
import timm as timm_package
import torch
import torch.nn.functional as F
from mmseg.models.backbones import VisionTransformer as VisionTransformerOfMMSeg
from mmseg.registry import MODELS
from reducers import ALL, reduced
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from mmcv_custom.engine.acceleration import compile_backbone
from mmcv_custom.errors import CheckpointError
from mmseg_custom import PlainViTBackbone
from token_pruning import METHODS, Trace

SMALL = dict(img_size=64, embed_dim=24, depth=4, num_heads=3)
REDUCERS = [reduced(dict(type=name)) for name in ALL]


def a_backbone(**more):
    torch.manual_seed(0)
    return PlainViTBackbone(**{**SMALL, **more}).eval()


@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("patch", [8, 14, 16])
@pytest.mark.parametrize("size", [(64, 64), (33, 97), (10, 50), (1, 1)])
def test_maps_cover_images_of_any_size(size, patch, class_token):
    vit = a_backbone(patch_size=patch, out_indices=[0, 2, 3], class_token=class_token)
    with torch.no_grad():
        maps = vit(torch.randn(2, 3, *size))
    assert [tuple(m.shape) for m in maps] == [(2, 24, -(-size[0] // patch), -(-size[1] // patch))] * 3
    assert all(m.is_contiguous(memory_format=torch.channels_last) and m.isfinite().all() for m in maps)


@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: dict(model=s), lambda s: dict(state_dict=s)])
def test_a_timm_file_gives_timms_features(tmp_path, class_token, wrap):
    torch.manual_seed(1)
    timm = VisionTransformer(
        img_size=64, patch_size=16, embed_dim=24, depth=4, num_heads=3, num_classes=5, class_token=True
    ).eval()
    nn.init.normal_(timm.norm.weight)
    if not class_token:  # timm's rows without the class token's, which a file still has
        timm.num_prefix_tokens, table, timm.cls_token = 0, timm.pos_embed.data, None
        state = dict(timm.state_dict(), cls_token=torch.zeros(1, 1, 24))
        timm.pos_embed = nn.Parameter(table[:, 1:])
    else:
        state = timm.state_dict()
    torch.save(wrap(state), tmp_path / "vit.pth")
    vit = a_backbone(
        class_token=class_token,
        out_indices=[1, 3],
        init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "vit.pth")),
    )
    vit.init_weights()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = vit(image)
        wanted = timm.forward_intermediates(image, indices=[1, 3], norm=True, intermediates_only=True)
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-5), (a - b).abs().max()


@pytest.mark.parametrize("class_token", [False, True])
def test_a_file_of_mmsegmentations_vit_gives_its_features(tmp_path, class_token):
    torch.manual_seed(1)
    theirs = VisionTransformerOfMMSeg(
        img_size=64,
        patch_size=8,
        patch_bias=True,
        embed_dims=24,
        num_layers=4,
        num_heads=3,
        out_indices=[1, 3],
        with_cls_token=class_token,
        norm_cfg=dict(type="LN", eps=1e-6),
    )
    theirs.eval()  # returns None
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    torch.save(dict(state_dict=theirs.state_dict()), tmp_path / "vit.pth")
    ours = a_backbone(
        patch_size=8,
        class_token=class_token,
        out_indices=[1, 3],
        final_norm=False,
        init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "vit.pth")),
    )
    ours.init_weights()
    for size in ((64, 64), (50, 90)):  # the second resamples the position table
        image = torch.randn(2, 3, *size)
        with torch.no_grad():
            for a, b in zip(ours(image), theirs(image), strict=True):
                assert torch.allclose(a, b, atol=1e-4, rtol=1e-4), (a - b).abs().max()


def test_padding_is_zeros_at_the_bottom_and_right():
    vit, image = a_backbone(), torch.randn(1, 3, 40, 60)
    with torch.no_grad():
        assert torch.equal(vit(image)[0], vit(F.pad(image, (0, 4, 0, 8)))[0])


@pytest.mark.parametrize("reducer", REDUCERS, ids=lambda r: r["type"])
def test_a_batch_equals_its_images_one_by_one_and_fewer_tokens_run(reducer):
    vit = a_backbone(reducer=reducer, class_token=True, out_indices=[1, 3])
    image = torch.randn(3, 3, 80, 112)
    with torch.no_grad(), Trace() as trace:
        together = vit(image)
        alone = [vit(one[None]) for one in image]
    for level, maps in enumerate(together):
        assert maps.shape == (3, 24, 5, 7) and maps.isfinite().all()
        assert torch.allclose(maps, torch.cat([one[level] for one in alone]), atol=1e-5)
    assert (trace.passes[0].keep_ratio() < 1).any()


@pytest.mark.parametrize("indices", [[], [3, 1], [1, 1, 3], [1, 2], [4], [-1]])
def test_impossible_out_indices_are_an_error(indices):
    with pytest.raises(ValueError, match="out_indices .* list blocks from 0 to 3, ascending, the last one included"):
        a_backbone(out_indices=indices)


def test_registered_and_initialised_by_config_only():
    assert MODELS.get("PlainViTBackbone") is PlainViTBackbone
    with pytest.raises(ValueError, match="must be None or dict"):
        a_backbone(init_cfg=dict(type="Kaiming")).init_weights()


COMPILED = [None, *(r for r in REDUCERS if METHODS[r["type"]].fixed_shapes)]


@pytest.mark.parametrize("reducer", COMPILED, ids=lambda r: r["type"] if r else "dense")
def test_it_compiles_into_one_graph(reducer):
    torch._dynamo.reset()  # otherwise the methods together exceed the recompile limit of one forward
    model = nn.Module()
    model.backbone = a_backbone(reducer=reducer, class_token=True, out_indices=[1, 3])
    image = torch.randn(2, 3, 60, 100)
    with torch.no_grad():
        exact = model.backbone(image)
        compile_backbone(model, backend="eager")
        for a, b in zip(exact, model.backbone(image), strict=True):
            assert torch.allclose(a, b, atol=1e-5)


def test_a_frozen_trunk_learns_nothing_and_its_reducer_does():
    vit = a_backbone(frozen=True, drop_path_rate=0.5, reducer=dict(type="SViT", blocks=[2, 3])).train()
    trained = {name.split(".")[0] for name, parameter in vit.named_parameters() if parameter.requires_grad}
    assert trained == {"reducer"} and vit.reducer.training and not vit.blocks[0].training
    assert not a_backbone(frozen=True).eval().blocks.training


def test_timms_weights_are_asked_for_by_name(monkeypatch):
    name = "vit_small_patch14_dinov2"
    options = dict(img_size=64, patch_size=16, embed_dim=24, depth=4, num_heads=3, model_name=name)
    vit = PlainViTBackbone(init_cfg=dict(type="Pretrained", checkpoint="timm"), **options)
    torch.manual_seed(3)
    source = timm_package.create_model(name, num_classes=0, img_size=56, embed_dim=24, depth=4, num_heads=3)
    asked = {}
    monkeypatch.setattr(timm_package, "create_model", lambda name, **kwargs: asked.update(kwargs, name=name) or source)
    vit.init_weights()
    assert asked == dict(name=name, pretrained=True, num_classes=0)
    torch.testing.assert_close(vit.blocks[3].mlp.fc2.weight, source.blocks[3].mlp.fc2.weight)
    assert vit.patch_embed.proj.weight.shape[-1] == 16  # resampled from 14

    def no_network(*args, **kwargs):
        raise OSError("no route to host\nmore")

    monkeypatch.setattr(timm_package, "create_model", no_network)
    with pytest.raises(
        CheckpointError, match=r"could not fetch the weights of 'vit_small_patch14_dinov2' \(no route to host\)"
    ):
        vit.init_weights()
    with pytest.raises(ValueError, match="checkpoint 'timm' needs a model_name"):
        a_backbone(init_cfg=dict(type="Pretrained", checkpoint="timm")).init_weights()
