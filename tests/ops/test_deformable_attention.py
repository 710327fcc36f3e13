"""Deformable attention in plain PyTorch: against grid_sample, in double precision, at the edges, in 16 bit."""

import pytest
import torch
import torch.nn.functional as F

from ops import MSDeformAttn, deformable_attention, functional, ms_deform_attn, reference

SHAPES = [(6, 8), (3, 4), (1, 1)]


def inputs(batch=2, queries=5, heads=3, dim=4, points=2, dtype=torch.float32, shapes=SHAPES):
    generator = torch.Generator().manual_seed(0)

    def random(*size):
        return torch.rand(*size, generator=generator, dtype=torch.float64).to(dtype)

    value = random(batch, sum(h * w for h, w in shapes), heads, dim) - 0.5
    locations = random(batch, queries, heads, len(shapes), points, 2) * 1.6 - 0.3
    weights = random(batch, queries, heads, len(shapes) * points).softmax(-1).view(locations.shape[:-1])
    return value, locations, weights


def by_grid_sample(value, shapes, locations, weights):
    batch, _, heads, dim = value.shape
    out, start = 0, 0
    for level, (h, w) in enumerate(shapes):
        plane = value[:, start:start + h * w].permute(0, 2, 3, 1).reshape(batch * heads, dim, h, w)
        grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        found = F.grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        out = out + found * weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]
        start += h * w
    return out.sum(-1).view(batch, heads * dim, -1).transpose(1, 2)


def test_equals_grid_sample_forward_and_backward():
    results = []
    for form in (ms_deform_attn, by_grid_sample):
        value, locations, weights = (t.requires_grad_() for t in inputs(dtype=torch.float64))
        out = form(value, SHAPES, locations, weights)
        out.sin().sum().backward()
        results.append((out.detach(), value.grad, locations.grad, weights.grad))
    for ours, wanted in zip(*results, strict=True):
        torch.testing.assert_close(ours, wanted, atol=1e-12, rtol=1e-10)


def test_gradcheck():
    value, locations, weights = (t.requires_grad_() for t in inputs(1, 2, 1, 2, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda *t: ms_deform_attn(t[0], SHAPES, t[1], t[2]), (value, locations, weights))


def test_both_forms_agree():
    value, locations, _ = inputs()
    logits = torch.randn(2, 5, 3, 6)
    points = torch.rand(1, 5, 1, 2)
    sizes = torch.tensor([(w, h) for h, w in SHAPES])
    offsets = torch.randn(locations.shape)
    absolute = points[:, :, None, :, None] + offsets / sizes[:, None]
    wanted = ms_deform_attn(value, SHAPES, absolute, logits.softmax(-1).view(2, 5, 3, 3, 2))
    torch.testing.assert_close(deformable_attention(value, SHAPES, points, offsets, logits), wanted)


def test_edges_read_zero_and_nan_reads_nothing():
    value, locations, weights = inputs(1, 1, 1, 2, 1, shapes=[(2, 2)])
    value.fill_(1.0)
    weights.fill_(1.0)
    for where, wanted in (((0.25, 0.25), 1.0), ((0.0, 0.25), 0.5), ((0.0, 0.0), 0.25), ((-0.25, 0.5), 0.0),
                          ((1.0, 0.75), 0.5), ((9.0, 9.0), 0.0), ((float("nan"), 0.5), 0.0),
                          ((float("inf"), 0.5), 0.0)):
        at = torch.tensor(where).view(1, 1, 1, 1, 1, 2).requires_grad_()
        out = ms_deform_attn(value, [(2, 2)], at, weights)
        assert out.tolist() == [[[wanted] * 2]], where
        out.sum().backward()
        assert at.grad.isfinite().all()


def test_no_queries_and_a_value_that_is_not_contiguous():
    value, locations, weights = inputs()
    assert ms_deform_attn(value, SHAPES, locations[:, :0], weights[:, :0]).shape == (2, 0, 12)
    strided = value.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(ms_deform_attn(strided, SHAPES, locations, weights),
                       ms_deform_attn(value, SHAPES, locations, weights))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_values_with_exact_coordinates(dtype):
    """On a map this wide 16-bit coordinates would be off by whole pixels, and grid_sample would read other planes."""
    shapes = [(200, 336)]
    value, locations, weights = inputs(1, 50, 2, 4, shapes=shapes)
    wanted = ms_deform_attn(value.to(dtype).float(), shapes, locations, weights)
    out = ms_deform_attn(value.to(dtype), shapes, locations, weights)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), wanted, atol=2e-2, rtol=2e-2)


def test_module_under_autocast_stays_close():
    torch.manual_seed(0)
    module = MSDeformAttn(24, 3, 3, 2)
    query, feat, points = torch.randn(2, 7, 24), torch.randn(2, 61, 24), torch.rand(1, 7, 1, 2)
    exact = module(query, points, feat, SHAPES)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(module(query, points, feat, SHAPES).float(), exact, atol=5e-2, rtol=5e-2)


def test_a_backend_takes_over_in_one_place(monkeypatch):
    value, locations, weights = inputs()
    calls = []

    def backend(*args):
        calls.append(args[0].shape)
        return reference.sample(*args)

    monkeypatch.setitem(functional.BACKENDS, "cpu", backend)
    ms_deform_attn(value, SHAPES, locations, weights)
    MSDeformAttn(12, 3, 3, 2)(torch.randn(1, 2, 12), torch.rand(1, 2, 1, 2), torch.randn(1, 61, 12), SHAPES)
    assert calls == [value.shape, (1, 61, 3, 4)]


def test_errors_are_one_sentence():
    value, locations, weights = inputs()
    with pytest.raises(ValueError, match="48 positions, the value tensor has 61"):
        ms_deform_attn(value, SHAPES[:1], locations, weights)
    with pytest.raises(ValueError, match="the shapes of 1 levels, this module was built for 3"):
        MSDeformAttn(24, 3, 3, 2)(torch.randn(1, 2, 24), torch.rand(1, 2, 1, 2), torch.randn(1, 48, 24), SHAPES[:1])
    with pytest.raises(ValueError, match="cannot be split over 7 heads"):
        MSDeformAttn(24, 3, 7, 2)
