"""The compiled operator in torch: opcheck, compile, export, CUDA graphs, reproducibility, FLOPs."""

import pytest
import torch
from deformable import SHAPES, gradients, inputs, on, raw_inputs
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from token_pruning_ops import MSDeformAttn, deformable_attention, ms_deform_attn, plain

COMPILED = pytest.mark.parametrize("path", ["cpu compiled", pytest.param("cuda compiled", marks=pytest.mark.cuda)])
FLAT = [side for shape in SHAPES for side in shape]


def operator_arguments(device, packed=False, reference=True, dtype=torch.float32):
    value, points, offsets, logits = raw_inputs(dim=8, device=device)
    images = torch.tensor([0, 1, 1, 0, -1, 1, 0, 0, 1, 1], dtype=torch.int32, device=device) if packed else None
    return (
        value.to(dtype).requires_grad_(),
        points[0].requires_grad_() if reference else None,
        offsets.flatten(0, 1).requires_grad_(),
        logits.view(10, 3, 3, 2).requires_grad_(),
        FLAT,
        images,
    )


@COMPILED
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(path, packed, reference, dtype):
    with on(path) as device:
        torch.library.opcheck(
            torch.ops.token_pruning.ms_deform_attn.default, operator_arguments(device, packed, reference, dtype)
        )


@COMPILED
def test_opcheck_of_the_backward_operator(path):
    with on(path) as device:
        arguments = [t.detach() if isinstance(t, torch.Tensor) else t for t in operator_arguments(device)]
        torch.library.opcheck(
            torch.ops.token_pruning.ms_deform_attn_backward.default,
            (torch.randn(10, 24, device=device), *arguments, None),
            test_utils=("test_schema", "test_faketensor"),
        )


class Both(nn.Module):
    """Module and function in one graph, with arithmetic around them."""

    def __init__(self):
        super().__init__()
        self.attn = MSDeformAttn(24, 3, 3, 2)
        nn.init.normal_(self.attn.attention_weights.weight, std=0.1)

    def forward(self, query, points, feat):
        out = self.attn(query, points, feat, SHAPES)
        return out + ms_deform_attn(
            feat.unflatten(-1, (3, 8)),
            SHAPES,
            points[:, :, None, :, None].expand(feat.shape[0], -1, 3, 3, 2, 2),
            torch.full((feat.shape[0], points.shape[1], 3, 3, 2), 1 / 6, device=feat.device),
        )


def tensors_of(device, queries=7):
    torch.manual_seed(0)
    return [t.to(device) for t in (torch.randn(2, queries, 24), torch.rand(1, queries, 1, 2), torch.randn(2, 61, 24))]


@COMPILED
def test_compiles_into_one_graph_with_any_number_of_queries(path):
    with on(path) as device:
        torch._dynamo.reset()
        module = Both().to(device)
        compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
        for queries in (7, 9):
            results = []
            for function in (module, compiled):
                module.zero_grad()
                out = function(*tensors_of(device, queries))
                out.square().sum().backward()
                results.append([out, *(p.grad.clone() for p in module.parameters())])
            for ours, wanted in zip(*results, strict=True):
                torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=1e-4)


@COMPILED
def test_exports(path):
    with on(path) as device, torch.no_grad():
        module = Both().to(device).eval()
        queries = torch.export.Dim("queries", min=2, max=64)
        program = torch.export.export(
            module, tuple(tensors_of(device)), dynamic_shapes=({1: queries}, {1: queries}, None)
        )
        assert "token_pruning.ms_deform_attn" in str(program.graph)
        torch.testing.assert_close(program.module()(*tensors_of(device, 11)), module(*tensors_of(device, 11)))


@COMPILED
@pytest.mark.parametrize("form", ["raw", "locations"])
def test_deterministic_mode_repeats_bit_for_bit(path, form):
    with on(path) as device:
        if form == "raw":
            tensors = raw_inputs(2, 300, 3, 16, device=device)
            function = lambda *t: deformable_attention(t[0], SHAPES, *t[1:])  # noqa: E731
        else:
            tensors = inputs(2, 300, 3, 16, device=device)
            tensors[2] = tensors[2] * 50  # weights need not be below 1
            function = lambda *t: ms_deform_attn(t[0], SHAPES, *t[1:])  # noqa: E731
        usual = gradients(function, tensors)
        torch.use_deterministic_algorithms(True)
        try:
            first, second = gradients(function, tensors), gradients(function, tensors)
        finally:
            torch.use_deterministic_algorithms(False)
        for a, b, c in zip(first, second, usual, strict=True):
            assert torch.equal(a, b)
            torch.testing.assert_close(a, c, atol=1e-3, rtol=1e-4)


def test_cpu_gradients_do_not_depend_on_the_number_of_threads():
    with on("cpu compiled"):
        tensors = raw_inputs(2, 300, 3, 24)
        results, threads = [], torch.get_num_threads()
        try:
            for number in (1, 2, 5):
                torch.set_num_threads(number)
                results.append(gradients(lambda *t: deformable_attention(t[0], SHAPES, *t[1:]), tensors))
        finally:
            torch.set_num_threads(threads)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@COMPILED
def test_second_derivatives_are_refused_in_a_sentence(path):
    with on(path) as device:
        value, *rest = raw_inputs(device=device)
        value.requires_grad_()
        rest[1].requires_grad_()
        out = deformable_attention(value, SHAPES, *rest)
        (first,) = torch.autograd.grad(out.square().sum(), value, create_graph=True)
        with pytest.raises(RuntimeError, match="has no second derivative"):
            first.square().sum().backward()


def test_flops_count_four_corners_on_both_paths():
    tensors = raw_inputs(dim=8)

    def count():
        with FlopCounterMode(display=False) as counter:
            gradients(lambda *t: deformable_attention(t[0], SHAPES, *t[1:]), tensors)
        return counter.get_total_flops()

    with on("cpu compiled"):
        forward = 2 * 4 * (2 * 5) * 3 * (3 * 2) * 8
        assert count() == 3 * forward
    from token_pruning import count_flops

    for way in (plain, torch.no_grad):
        with way(), count_flops() as flops:
            deformable_attention(tensors[0], SHAPES, *tensors[1:])
        assert flops.total == forward


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda a: (a[0][0], *a[1:]), r"value must be \(B, S, M, D\), got \(61, 3, 8\)"),
        (lambda a: (*a[:2], a[2][:, :2], *a[3:]), "different numbers of heads"),
        (lambda a: (*a[:3], a[3][:3], *a[4:]), r"weights must be \(T, M, L, P\)"),
        (lambda a: (*a[:4], FLAT[:4], a[5]), r"shapes must hold \(h, w\) of the 3 levels"),
        (lambda a: (*a[:4], [6, 8, 3, 4, 2, 1], a[5]), "the levels of shapes have 62 positions"),
        (lambda a: (*a[:4], [6, 8, 13, 1, 0, 4], a[5]), "level 2 of shapes is 0 x 4"),
        (lambda a: (a[0], a[1][:3], *a[2:]), "reference must be"),
        (lambda a: (*a[:5], torch.zeros(3, dtype=torch.int32)), r"images must be \(T,\)"),
        (lambda a: (*a[:5], torch.zeros(10)), "images must be int32"),
        (lambda a: (a[0], a[1], a[2].double(), *a[3:]), "points must be float32"),
        (lambda a: (a[0], None, a[2][:9], a[3][:9], *a[4:]), "equally many"),
        (lambda a: (a[0].long(), *a[1:]), "value must be float64"),
    ],
    ids=range(12),
)
def test_the_operator_itself_refuses_what_would_read_outside(spoil, sentence):
    """Calls that bypass the Python functions, from C++ or an exported program, are checked, too."""
    with on("cpu compiled") as device, pytest.raises(RuntimeError, match=sentence):
        torch.ops.token_pruning.ms_deform_attn(
            *spoil([t.detach() if isinstance(t, torch.Tensor) else t for t in operator_arguments(device)])
        )


@pytest.mark.cuda
def test_captures_into_a_cuda_graph():
    with on("cuda compiled") as device:
        static = raw_inputs(2, 50, 3, 32, device=device)
        leaves = [t.requires_grad_(i != 1) for i, t in enumerate(static)]

        def step():
            out = deformable_attention(leaves[0], SHAPES, *leaves[1:])
            return out, *torch.autograd.grad(out.square().sum(), [leaves[i] for i in (0, 2, 3)])

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step()
        with torch.no_grad():
            leaves[0].normal_()
            leaves[2].mul_(0.5)
        graph.replay()
        for found, wanted in zip(captured, step(), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.cuda
def test_no_call_waits_for_the_device_and_no_temporary_is_of_the_samples_size():
    with on("cuda compiled") as device:
        tensors = raw_inputs(2, 5000, 3, 32, device=device)
        gradients(lambda *t: deformable_attention(t[0], SHAPES, *t[1:]), tensors)  # first calls may set things up
        leaves = [t.requires_grad_() for t in tensors]
        grad = torch.ones(2, 5000, 96, device=device)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        torch.cuda.set_sync_debug_mode("error")
        try:
            with torch.no_grad():
                out = deformable_attention(leaves[0], SHAPES, *leaves[1:])
            forward = torch.cuda.max_memory_allocated() - before
            deformable_attention(leaves[0], SHAPES, *leaves[1:]).backward(grad)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert forward <= out.numel() * 4 + 2**16


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_computes_on_the_device_of_its_tensors():
    with on("cuda compiled"):
        tensors = raw_inputs(dim=16)
        wanted = deformable_attention(tensors[0], SHAPES, *tensors[1:])
        on_second = [t.to("cuda:1") for t in tensors]
        torch.testing.assert_close(deformable_attention(on_second[0], SHAPES, *on_second[1:]).cpu(), wanted)
