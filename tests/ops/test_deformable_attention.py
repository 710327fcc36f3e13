"""Deformable attention on every path: against grid_sample in float64, all types, packed, edge cases, errors."""

import pytest
import torch
from deformable import PATHS, SHAPES, gradients, inputs, on, raw_inputs

from token_pruning_ops import MSDeformAttn, deformable_attention, grid_sample, library, ms_deform_attn
from token_pruning_ops.baselines import from_raw
from token_pruning_ops.reference import by_grid_sample

ALL_PATHS = pytest.mark.parametrize("path", PATHS)


def agree(ours, wanted, **tolerance):
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a, b.to(a), **tolerance)


@ALL_PATHS
@pytest.mark.parametrize("dim", [4, 16, 24, 32, 64, 71, 130])
def test_equals_grid_sample_forward_and_backward(path, dim):
    with on(path) as device:
        exact = torch.float64 if device.type == "cpu" or "plain" in path else torch.float32
        wanted = gradients(lambda *t: by_grid_sample(t[0], SHAPES, *t[1:]), inputs(dim=dim, dtype=torch.float64))
        ours = gradients(lambda *t: ms_deform_attn(t[0], SHAPES, *t[1:]), inputs(dim=dim, dtype=exact, device=device))
        tolerance = dict(atol=1e-12, rtol=1e-10) if exact == torch.float64 else dict(atol=1e-4, rtol=1e-4)
        agree([t.cpu() for t in ours], wanted, **tolerance)


@ALL_PATHS
def test_gradcheck(path):
    if path == "cuda compiled":
        pytest.skip("the compiled CUDA kernels have no float64")
    with on(path) as device:
        tensors = [t.requires_grad_() for t in inputs(1, 2, 1, 2, dtype=torch.float64, device=device)]
        assert torch.autograd.gradcheck(lambda *t: ms_deform_attn(t[0], SHAPES, *t[1:]), tensors)
        for reference in ((1, 1), (2, 3)):
            raw = [
                t.requires_grad_()
                for t in raw_inputs(2, 2, 1, 2, dtype=torch.float64, device=device, reference=reference)
            ]
            assert torch.autograd.gradcheck(lambda *t: deformable_attention(t[0], SHAPES, *t[1:]), raw)


@ALL_PATHS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("raw_dtype", ["exact", "same"])
@pytest.mark.parametrize("dim", [5, 32, 64])
def test_every_type_errs_at_most_twice_what_pytorch_does(path, dtype, raw_dtype, dim):
    """Errors are against float64 on the same rounded inputs; PyTorch's is that of grid_sample in float32, rounded.

    Points stay away from the kinks of bilinear interpolation, where rounding makes a gradient jump.
    """
    value, points, offsets, logits = raw_inputs(2, 100, 2, dim, 4, torch.float64)
    kind = torch.float32 if raw_dtype == "exact" else dtype
    value, points, offsets, logits = value.to(dtype), points.float(), offsets.to(kind), logits.to(kind)
    sizes = torch.tensor([(w, h) for h, w in SHAPES])[:, None]
    pixels = points[..., None, :, None, :] * sizes + offsets - 0.5
    offsets = torch.where((pixels - pixels.round()).abs() > 0.02, offsets, offsets + 0.125)

    def grid_sample(*tensors):
        return from_raw(by_grid_sample, tensors[0].float(), SHAPES, *(t.float() for t in tensors[1:])).to(dtype)

    # Offsets of 16 bit are read as they are unless reference points need gradients.
    fixed = [1] if raw_dtype == "same" else []
    true = gradients(
        lambda *t: deformable_attention(t[0], SHAPES, *t[1:]),
        [t.double() for t in (value, points, offsets, logits)],
        fixed,
    )
    peer = gradients(grid_sample, (value, points, offsets, logits), fixed)
    with on(path) as device:
        ours = gradients(
            lambda *t: deformable_attention(t[0], SHAPES, *t[1:]),
            [t.to(device) for t in (value, points, offsets, logits)],
            fixed,
        )
    names = ("out", "value", "points", "offsets", "logits")
    for name, found, theirs, exact in zip(names, ours, peer, true, strict=True):
        if exact is None:
            continue
        assert found.dtype == dict(out=dtype, value=dtype, points=torch.float32).get(name, kind)
        error, allowed = ((t.cpu().double() - exact).norm() for t in (found, theirs))
        assert error <= 2 * allowed + 1e-7 * exact.norm(), (name, error / exact.norm(), allowed / exact.norm())


@ALL_PATHS
def test_both_forms_agree(path):
    with on(path) as device:
        for reference in ((1, 1), (2, 1), (1, 3), (2, 3)):
            value, points, offsets, logits = raw_inputs(device=device, reference=reference)
            sizes = torch.tensor([(w, h) for h, w in SHAPES], device=device)[:, None]
            absolute = points[:, :, None, :, None] + offsets / sizes
            wanted = ms_deform_attn(value, SHAPES, absolute, logits.softmax(-1).view(2, 5, 3, 3, 2))
            torch.testing.assert_close(deformable_attention(value, SHAPES, points, offsets, logits), wanted)


@ALL_PATHS
def test_boxes_count_offsets_in_half_sides(path):
    with on(path) as device:
        value, points, offsets, logits = raw_inputs(device=device, reference=(2, 3))
        sides = torch.rand(2, 5, 3, 2, device=device)
        absolute = points[:, :, None, :, None] + offsets / 2 * sides[:, :, None, :, None] * 0.5
        wanted = ms_deform_attn(value, SHAPES, absolute, logits.softmax(-1).view(2, 5, 3, 3, 2))
        boxes = torch.cat([points, sides], -1)
        torch.testing.assert_close(deformable_attention(value, SHAPES, boxes, offsets, logits), wanted)


@ALL_PATHS
def test_packed_queries_equal_their_images_in_any_order(path):
    with on(path) as device:
        value, points, offsets, logits = raw_inputs(3, reference=(3, 1), device=device)
        whole = gradients(lambda *t: deformable_attention(t[0], SHAPES, *t[1:]), (value, points, offsets, logits))
        order = torch.randperm(15, generator=torch.Generator().manual_seed(1)).to(device)
        images = order // 5
        packed = [t.flatten(0, 1)[order] for t in (points, offsets, logits)]
        ours = gradients(lambda *t: deformable_attention(t[0], SHAPES, *t[1:], images=images), [value, *packed])
        agree(ours, [whole[0].flatten(0, 1)[order], whole[1], *(t.flatten(0, 1)[order] for t in whole[2:])])
        value, locations, weights = inputs(3, device=device)
        torch.testing.assert_close(
            ms_deform_attn(value, SHAPES, locations.flatten(0, 1)[order], weights.flatten(0, 1)[order], images=images),
            ms_deform_attn(value, SHAPES, locations, weights).flatten(0, 1)[order],
        )


@ALL_PATHS
def test_packed_query_of_no_image_gives_zeros(path):
    with on(path) as device:
        value, points, offsets, logits = (
            t.flatten(0, 1) if i else t for i, t in enumerate(raw_inputs(2, reference=(2, 1), device=device))
        )
        images = torch.tensor([0, -1, 1, 2, 1000, 0, 0, 1, -7, 1], device=device)
        out, *grads = gradients(
            lambda *t: deformable_attention(t[0], SHAPES, *t[1:], images=images), (value, points, offsets, logits)
        )
        lost = (images < 0) | (images > 1)
        for tensor in (out, *grads[1:]):
            assert tensor[lost].abs().max() == 0 and (tensor[~lost].flatten(1).abs().amax(1) > 0).all()
        again = gradients(
            lambda *t: deformable_attention(t[0], SHAPES, *t[1:], images=images[~lost]),
            (value, points[~lost], offsets[~lost], logits[~lost]),
        )
        torch.testing.assert_close(grads[0], again[1])


@ALL_PATHS
def test_edges_read_zero_and_nan_reads_nothing(path):
    with on(path) as device:
        value, locations, weights = inputs(1, 1, 1, 2, 1, shapes=[(2, 2)], device=device)
        value.fill_(1.0)
        weights.fill_(1.0)
        for where, wanted in (
            ((0.25, 0.25), 1.0),
            ((0.0, 0.25), 0.5),
            ((0.0, 0.0), 0.25),
            ((-0.25, 0.5), 0.0),
            ((1.0, 0.75), 0.5),
            ((9.0, 9.0), 0.0),
            ((-1e30, 0.5), 0.0),
            ((float("nan"), 0.5), 0.0),
            ((float("inf"), 0.5), 0.0),
        ):
            at = torch.tensor(where, device=device).view(1, 1, 1, 1, 1, 2).requires_grad_()
            out = ms_deform_attn(value, [(2, 2)], at, weights)
            assert out.tolist() == [[[wanted] * 2]], where
            out.sum().backward()
            assert at.grad.isfinite().all()


@ALL_PATHS
def test_what_is_not_read_may_be_anything(path):
    """NaN at a corner outside the map, or in another image, does not reach the output."""
    with on(path) as device:
        value = torch.full((2, 4, 1, 16), float("nan"), device=device)
        value[0, 1] = 1.0
        at = torch.tensor((1.0, 0.0), device=device).view(1, 1, 1, 1, 2)  # the corner of the upper right pixel
        out = ms_deform_attn(
            value,
            [(2, 2)],
            at,
            torch.ones(1, 1, 1, 1, device=device),
            images=torch.zeros(1, dtype=torch.int32, device=device),
        )
        assert out.tolist() == [[0.25] * 16]


@ALL_PATHS
def test_nan_at_the_first_position_stays_there(path):
    """Position 0 stands for nothing else: not for points outside, not for queries of no image."""
    with on(path) as device:
        value, locations, weights = inputs(2, 5, device=device)
        locations, weights = locations.flatten(0, 1), weights.flatten(0, 1)
        images = torch.tensor([0, 0, 0, 0, -1, 1, 1, 1, 2, -1], device=device)
        locations[2:4], locations[7] = 4.0, torch.nan
        nothing = (images < 0) | (images > 1) | (locations.flatten(1)[:, 0] > 3) | locations.flatten(1)[:, 0].isnan()
        weights[4] = torch.nan
        value[:, 0] = torch.nan
        out, _, *grads = gradients(
            lambda *t: ms_deform_attn(t[0], SHAPES, *t[1:], images=images), (value, locations, weights)
        )
        for tensor in (out, *grads):
            assert tensor[nothing].eq(0).all()


@ALL_PATHS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_reaches_only_the_points_that_read_it(path, dtype):
    with on(path) as device:
        value, locations, weights = inputs(1, 40, 1, 8, 1, shapes=[(6, 8)], device=device)
        pixels = locations.flatten(0, 4) * torch.tensor([8, 6], device=device) - 0.5
        reads = ((pixels > -1) & (pixels < 1)).all(1)
        wanted = ms_deform_attn(value.to(dtype), [(6, 8)], locations, weights)[0]
        value[:, 0] = torch.nan
        out = ms_deform_attn(value.to(dtype), [(6, 8)], locations, weights)[0]
        assert 0 < reads.sum() < 40 and out[reads].isnan().all()
        assert torch.equal(out[~reads], wanted[~reads])


@ALL_PATHS
def test_nothing_to_do(path):
    with on(path) as device:
        value, locations, weights = inputs(device=device)
        for lead in ((2, 0), (0, 5)):
            some = [t[: lead[0], : lead[1]] for t in (locations, weights)]
            out, *grads = gradients(lambda *t: ms_deform_attn(t[0], SHAPES, *t[1:]), (value[: lead[0]], *some))
            assert out.shape == (*lead, 12)
            assert all(grad is not None and grad.abs().sum() == 0 for grad in grads)
        points, offsets, logits = (t[:, :0] for t in raw_inputs(device=device)[1:])
        _, *grads = gradients(lambda *t: deformable_attention(t[0], SHAPES, *t[1:]), (value, points, offsets, logits))
        assert all(grad is not None and grad.abs().sum() == 0 for grad in grads)
        none = torch.zeros(0, dtype=torch.int32, device=device)
        assert ms_deform_attn(value, SHAPES, locations[0, :0], weights[0, :0], images=none).shape == (0, 12)


@ALL_PATHS
def test_strides_do_not_matter(path):
    with on(path) as device:
        value, points, offsets, logits = raw_inputs(dim=16, device=device)
        wanted = gradients(lambda *t: deformable_attention(t[0], SHAPES, *t[1:]), (value, points, offsets, logits))
        strided = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (value, points, offsets, logits)]
        agree(gradients(lambda *t: deformable_attention(t[0], SHAPES, *t[1:]), strided), wanted)
        odd = torch.empty(value.numel() + 1, device=device)[1:].view_as(value).copy_(value)  # not aligned to 16 bytes
        expanded = [odd, points.expand(2, -1, -1, -1), offsets[:1].expand(2, -1, -1, -1, -1, -1), logits]
        torch.testing.assert_close(
            deformable_attention(expanded[0], SHAPES, *expanded[1:]),
            deformable_attention(value, SHAPES, points, offsets[:1].repeat(2, 1, 1, 1, 1, 1), logits),
        )


@ALL_PATHS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_values_with_exact_coordinates(path, dtype):
    """On so wide a map 16-bit coordinates are off by whole pixels, and grid_sample would read other planes."""
    shapes = [(200, 336)]
    with on(path) as device:
        value, locations, weights = inputs(1, 50, 2, 4, shapes=shapes, device=device)
        wanted = ms_deform_attn(value.to(dtype).float(), shapes, locations, weights)
        out = ms_deform_attn(value.to(dtype), shapes, locations, weights)
        assert out.dtype == dtype
        torch.testing.assert_close(out.float(), wanted, atol=2e-2, rtol=2e-2)


@ALL_PATHS
def test_module_under_autocast_stays_close(path):
    with on(path) as device:
        torch.manual_seed(0)
        module = MSDeformAttn(24, 3, 3, 2).to(device)
        query, feat, points = (
            t.to(device) for t in (torch.randn(2, 7, 24), torch.randn(2, 61, 24), torch.rand(1, 7, 1, 2))
        )
        exact = module(query, points, feat, SHAPES)
        with torch.autocast(device.type, torch.bfloat16):
            out = module(query, points, feat, SHAPES)
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.float(), exact, atol=5e-2, rtol=5e-2)
        out.float().sum().backward()
        assert all(p.grad.isfinite().all() for p in module.parameters())


BAD = {
    "value's rank": (
        lambda a: a | dict(value=a["value"][0]),
        ValueError,
        r"value must be \(B, S, M, D\), got \(61, 3, 4\)",
    ),
    "value's type": (lambda a: a | dict(value=a["value"].long()), TypeError, "value must be of a floating-point type"),
    "too few levels": (lambda a: a | dict(shapes=SHAPES[:1]), ValueError, "have 48 positions, value has 61"),
    "a level of no size": (lambda a: a | dict(shapes=[(6, 8), (13, 1), (0, 4)]), ValueError, "must hold positive"),
    "a negative level": (lambda a: a | dict(shapes=[(-6, -8), (3, 4), (1, 1)]), ValueError, "must hold positive"),
    "offsets' rank": (lambda a: a | dict(offsets=a["offsets"][0]), ValueError, r"offsets must be \(B, Q, M, L, P, 2\)"),
    "offsets' heads": (lambda a: a | dict(offsets=a["offsets"][:, :, :2]), ValueError, "M = 3 heads of value"),
    "offsets' images": (lambda a: a | dict(offsets=a["offsets"][:1]), ValueError, "offsets .* is of 1 images, value"),
    "logits": (lambda a: a | dict(logits=a["logits"][..., 1:]), ValueError, r"logits must be \(2, 5, 3, 6\), got"),
    "logits' type": (lambda a: a | dict(logits=a["logits"].int()), TypeError, "logits must be of a floating-point"),
    "reference points": (
        lambda a: a | dict(reference_points=a["reference_points"][:, 1:]),
        ValueError,
        r"reference_points must be \(B or 1, Q, L or 1, 2 or 4\), got \(1, 4, 1, 2\)",
    ),
    "another device": (
        lambda a: a | dict(offsets=a["offsets"].to("meta")),
        ValueError,
        "offsets is on meta, value on cpu",
    ),
    "packed without axis": (
        lambda a: a | dict(images=torch.zeros(5)),
        ValueError,
        r"offsets must be \(T, M, L, P, 2\)",
    ),
    "number of images": (
        lambda a: (
            {k: t[0] if k not in ("value", "shapes") else t for k, t in a.items()}
            | dict(images=torch.zeros(4, dtype=torch.int32))
        ),
        ValueError,
        r"images must be \(5,\)",
    ),
    "images' type": (
        lambda a: {k: t[0] if k not in ("value", "shapes") else t for k, t in a.items()} | dict(images=torch.zeros(5)),
        TypeError,
        "images must be int32 or int64",
    ),
}


@pytest.mark.parametrize("path", ["cpu compiled", "cpu plain"])
@pytest.mark.parametrize(("spoil", "error", "sentence"), BAD.values(), ids=BAD.keys())
def test_errors_name_the_argument(path, spoil, error, sentence):
    value, points, offsets, logits = raw_inputs()
    arguments = spoil(dict(value=value, shapes=SHAPES, reference_points=points, offsets=offsets, logits=logits))
    with on(path), pytest.raises(error, match=sentence):
        deformable_attention(**arguments)


def test_errors_of_locations_weights_and_module():
    value, locations, weights = inputs()
    with pytest.raises(ValueError, match=r"locations must be \(B, Q, M, L, P, 2\), got \(2, 5, 3, 3, 2\)"):
        ms_deform_attn(value, SHAPES, locations[..., 0], weights)
    with pytest.raises(ValueError, match=r"weights must be \(2, 5, 3, 3, 2\), got \(2, 5, 3, 3, 1\)"):
        ms_deform_attn(value, SHAPES, locations, weights[..., :1])
    with pytest.raises(ValueError, match="the shapes of 1 levels, this module was built for 3"):
        MSDeformAttn(24, 3, 3, 2)(torch.randn(1, 2, 24), torch.rand(1, 2, 1, 2), torch.randn(1, 48, 24), SHAPES[:1])
    with pytest.raises(ValueError, match="cannot be split over 7 heads"):
        MSDeformAttn(24, 3, 7, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_form_by_grid_sample_has_the_same_numbers(dtype):
    tolerance = dict(atol=1e-6, rtol=1e-5) if dtype == torch.float32 else dict(atol=2e-3, rtol=2e-3)
    value, locations, weights = inputs(dtype=dtype)
    raw = raw_inputs(dtype=dtype)
    boxes = torch.cat([raw[1], torch.rand(1, 5, 1, 2)], dim=-1)
    packed = [t.flatten(0, 1) for t in (locations, weights)]
    of_image = torch.arange(2).repeat_interleave(5)

    def everything():
        return [
            ms_deform_attn(value, SHAPES, locations.float(), weights),
            ms_deform_attn(value, SHAPES, packed[0].float(), packed[1], of_image).view(2, 5, -1),
            deformable_attention(raw[0], SHAPES, *raw[1:]),
            deformable_attention(raw[0], SHAPES, boxes, *raw[2:]),
        ]

    wanted = everything()
    with grid_sample():
        assert library.by_grid_sample() and not library.compiled(value, len(SHAPES))
        found = everything()
    assert not library.by_grid_sample()
    agree(found, wanted, **tolerance)
