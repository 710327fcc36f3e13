"""timm networks by name: dense they equal timm's, pruned they have a reducer; an unknown name is a clear error."""

import copy

import pytest
import timm
import torch
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

import mmpretrain_custom  # noqa: F401 - registers the models
from token_pruning import Random, Trace

SIZES = dict(img_size=32, patch_size=8, embed_dim=32, depth=4, num_heads=2, num_classes=5)


def network(**kwargs):
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    return MODELS.build(dict(type="TimmViT", **dict(dict(model_name="deit_tiny_patch16_224"), **SIZES, **kwargs)))


@pytest.mark.parametrize(
    "name",
    [
        "deit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "deit3_small_patch16_224",
        "vit_small_patch14_reg4_dinov2",
    ],
)
def test_dense_is_timms_model_to_the_name_of_every_weight_but_run_and_traced_by_the_core(name):
    sizes = {k: v for k, v in SIZES.items()}
    plain = timm.create_model(name, **sizes).eval()
    own = network(model_name=name).eval()
    own.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad(), Trace() as trace:
        torch.testing.assert_close(own(images), plain(images), atol=1e-5, rtol=1e-4)
    assert trace.passes[0].keep_ratio().eq(1).all() and trace.passes[0].masks().shape == (2, 4, 4, 4)
    assert own.reducer is None and own.execution == "exact"


def test_a_reducer_prunes_and_a_copy_runs_its_own_weights():
    own = network(reducer=dict(type="Random", blocks=[1, 2], keep_ratio=0.5)).eval()
    assert isinstance(own.reducer, Random)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad(), Trace() as trace:
        before = own(images)
    assert trace.passes[0].keep_ratio().tolist() == [[1, 0.5, 0.5, 1]]
    other = copy.deepcopy(own)
    with torch.no_grad():
        for p in own.blocks.parameters():
            p.zero_()
        assert torch.equal(other(images), before) and not torch.allclose(own(images), before)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(model_name="deit_smal_patch16_224"), "'deit_smal_patch16_224': did you mean .*deit_small_patch16_224"),
        (dict(model_name="!"), "timm has no model '!': timm.list_models"),
        (dict(reducer=dict(type="None")), "unknown reducer type 'None'"),
        (dict(execution="fast"), "choose 'exact' or 'capacity'"),
    ],
)
def test_wrong_arguments_get_one_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        network(**change)


def test_a_network_that_is_no_vision_transformer_is_refused():
    with pytest.raises(TypeError, match="ResNet is not run by timm's VisionTransformer.forward_features"):
        MODELS.build(dict(type="TimmViT", model_name="resnet10t"))
