"""token_pruning_ops.replace: MMCV's and transformers' modules give the same numbers with this operator."""

import importlib

import pytest
import torch

from token_pruning_ops import replace_deformable_attention

SHAPES = [(6, 8), (3, 4)]


def inputs(generator):
    def random(*shape):
        return torch.rand(*shape, generator=generator)

    value, locations, weights = random(2, 60, 4, 8), random(2, 5, 4, 2, 3, 2), random(2, 5, 4, 6).softmax(-1)
    shapes = torch.tensor(SHAPES)
    starts = torch.tensor([0, 48])
    return value, shapes, starts, locations, weights.unflatten(3, (2, 3))


def test_mmcv(monkeypatch):
    module = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
    for name in ("MultiScaleDeformableAttnFunction", "multi_scale_deformable_attn_pytorch"):
        monkeypatch.setattr(module, name, getattr(module, name))  # restored at the end
    torch.manual_seed(0)
    attention = module.MultiScaleDeformableAttention(
        32, num_heads=4, num_levels=2, num_points=3, batch_first=True
    ).eval()
    query, value = torch.rand(2, 5, 32), torch.rand(2, 60, 32)
    more = dict(reference_points=torch.rand(2, 5, 2, 2), spatial_shapes=torch.tensor(SHAPES))
    more |= dict(level_start_index=torch.tensor([0, 48]))
    before = attention(query, value=value, **more)
    assert "mmcv.ops.MultiScaleDeformableAttention" in replace_deformable_attention()
    assert replace_deformable_attention("mmcv") == ["mmcv.ops.MultiScaleDeformableAttention"]
    with pytest.raises(ValueError, match="in mmcv, transformers, not in 'timm'"):
        replace_deformable_attention("timm")
    assert module.multi_scale_deformable_attn_pytorch.__module__ == "token_pruning_ops.replace"
    torch.testing.assert_close(attention(query, value=value, **more), before, atol=1e-5, rtol=1e-5)
    value, shapes, starts, locations, weights = inputs(torch.Generator().manual_seed(0))
    one = module.MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)
    assert torch.equal(one, module.multi_scale_deformable_attn_pytorch(value, shapes, locations, weights))


def test_transformers(monkeypatch):
    module = pytest.importorskip("transformers.models.deformable_detr.modeling_deformable_detr")
    kind = module.MultiScaleDeformableAttention
    monkeypatch.setattr(kind, "forward", kind.forward)
    value, shapes, starts, locations, weights = inputs(torch.Generator().manual_seed(0))
    attention = kind()
    before = attention(value, shapes, SHAPES, starts, locations, weights, 64)
    assert f"{module.__name__}.MultiScaleDeformableAttention" in replace_deformable_attention()
    after = attention(value, shapes, SHAPES, starts, locations, weights, 64)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
