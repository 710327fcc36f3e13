"""The CUDA kernels without a GPU: compiled by g++ for an emulator of warps and compared with plain PyTorch.

Shapes: B images, S positions of all levels, T queries of all images together, M heads, D channels of a head, L levels,
P points, R rows of reference points.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from token_pruning_ops import reference

HERE = Path(__file__).parent / "cuda_emulator"
SHAPES = [(6, 5), (1, 1), (3, 4)]
TYPES = {torch.float64: 0, torch.float32: 1, torch.float16: 2, torch.bfloat16: 3}
# Half an ulp of the type that the kernels store, and a margin for their sums in fp32.
ROUNDING = {torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}
TYPE_PAIRS = [
    (torch.float32, torch.float32),
    (torch.float16, torch.float16),
    (torch.float16, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.bfloat16, torch.float32),
]


class Problem(ctypes.Structure):
    """The struct Problem of msda.h."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("images", "positions", "heads", "channels", "levels", "points_per_level", "queries")
        ),
        ("shapes", ctypes.c_void_p),
        ("value_type", ctypes.c_int),
        ("point_type", ctypes.c_int),
        *((name, ctypes.c_void_p) for name in ("value", "points", "weights", "reference")),
        ("reference_rows", ctypes.c_int64),
        ("reference_levels", ctypes.c_int64),
        ("image", ctypes.c_void_p),
    ]


@pytest.fixture(scope="session")
def emulated(tmp_path_factory):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++, to compile the CUDA kernels for the CPU")
    library = tmp_path_factory.mktemp("emulated") / "emulated.so"
    # No strict aliasing, as with nvcc: kernels read eight numbers as four words.
    subprocess.run(
        [
            compiler,
            "-O1",
            "-std=c++17",
            "-fno-strict-aliasing",
            "-fPIC",
            "-shared",
            f"-I{Path(torch.__file__).parent / 'include'}",
            HERE / "emulated.cpp",
            "-o",
            library,
        ],
        check=True,
    )
    loaded = ctypes.CDLL(str(library))

    def call(name, *args):
        function = getattr(loaded, name)
        function.restype = ctypes.c_char_p
        message = function(*args)
        if message is not None:
            raise RuntimeError(message.decode())

    return call


def guarded(tensor, guard=float("nan"), shift=0):
    """Return a copy between guard numbers, misaligned by ``shift`` numbers; a NaN guard shows if a kernel reads it."""
    if tensor is None or not tensor.is_floating_point():
        return tensor
    buffer = tensor.new_full((tensor.numel() + 2048,), guard)
    inner = buffer[1024 + shift : 1024 + shift + tensor.numel()].view(tensor.shape)
    return inner.copy_(tensor)


def room(shape, dtype, fill=float("nan")):
    """Return memory for a kernel to write to; the guard -0.0 changes even if zero is added to it."""
    return guarded(torch.full(shape, fill, dtype=dtype), guard=-0.0)


def assert_guards_are_whole(tensor):
    buffer = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
    start = tensor.storage_offset()
    guards = torch.cat([buffer[:start], buffer[start + tensor.numel() :]])
    assert not guards.any() and guards.signbit().all()


def inputs(
    type_pair=TYPE_PAIRS[0],
    shapes=SHAPES,
    fused=True,
    batch=2,
    queries=10,
    heads=2,
    dim=8,
    points=2,
    rows=1,
    levels=1,
    images=None,
    seed=0,
):
    """Return a random case whose samples are at least 0.05 pixels from pixel centres, where gradients jump.

    fused: reference points with offsets and logits; otherwise locations and weights.
    rows: how many groups of queries share the same reference points.
    levels: whether each level has its own reference points.
    """
    torch.manual_seed(seed)
    value_type, point_type = type_pair
    sizes = torch.tensor([(w, h) for h, w in shapes]).view(-1, 1, 2)
    lead = (queries, heads, len(shapes), points)
    pixels = (torch.rand(*lead, 2) * (sizes + 4) - 2.5).floor() + 0.1 + 0.8 * torch.rand(*lead, 2)
    points_of_reference = torch.rand(queries // rows, len(shapes) if levels else 1, 2) if fused else None
    if fused:
        moved = pixels + 0.5 - points_of_reference.repeat(rows, 1, 1)[:, None, :, None] * sizes
    else:
        moved = (pixels + 0.5) / sizes
    weights = torch.randn(lead) * 2
    return SimpleNamespace(
        shapes=shapes,
        reference=points_of_reference,
        images=images,
        points=moved.to(point_type),
        value=torch.randn(batch, sum(h * w for h, w in shapes), heads, dim).to(value_type),
        weights=(weights if fused else weights.flatten(2).softmax(-1).view(lead)).to(point_type),
        grad=torch.randn(queries, heads * dim).to(value_type),
    )


def expected(case):
    """Return the output and the gradients of value, points and weights in fp64."""
    value, points, weights = (t.double().requires_grad_() for t in (case.value, case.points, case.weights))
    queries, batch = len(points), len(value)
    sizes = torch.tensor([(w, h) for h, w in case.shapes]).view(-1, 1, 2)
    if case.reference is None:
        pixels, factors = points * sizes - 0.5, weights
    else:
        centres = case.reference.double().repeat(queries // len(case.reference), 1, 1)
        pixels = centres[:, None, :, None] * sizes + points - 0.5
        factors = weights.flatten(2).softmax(-1).view(weights.shape)
    images = torch.arange(queries) // (queries // batch) if case.images is None else case.images
    out = torch.zeros(case.grad.shape, dtype=torch.float64)
    for image in range(batch):
        found = reference.sample(value[image : image + 1], case.shapes, pixels[None], factors[None])[0]
        out = torch.where((images == image)[:, None], found, out)
    return out.detach(), *torch.autograd.grad(out, (value, points, weights), case.grad.double())


def run(call, case, bound=None, seed=0, shift=0):
    """Return what ``expected`` does, by the kernels; with ``bound`` the gradient of value is summed in fixed point."""
    held = SimpleNamespace(**{name: guarded(t) for name, t in vars(case).items() if name != "shapes"})
    held.value = guarded(case.value, shift=shift)
    shapes = torch.tensor(case.shapes)
    queries, _, levels, points, _ = case.points.shape
    problem = Problem(
        *case.value.shape,
        levels,
        points,
        queries,
        shapes.data_ptr(),
        TYPES[case.value.dtype],
        TYPES[case.points.dtype],
        *(None if t is None else t.data_ptr() for t in (held.value, held.points, held.weights, held.reference)),
        *((1, 1) if case.reference is None else case.reference.shape[:2]),
        None if case.images is None else case.images.data_ptr(),
    )
    out, to_points, to_weights = (room(t.shape, t.dtype) for t in (case.grad, case.points, case.weights))

    def start(name, *args):
        pointers = (ctypes.c_void_p(t.data_ptr()) if isinstance(t, torch.Tensor) else t for t in args)
        call(name, ctypes.byref(problem), *pointers, seed)

    start("forward", out)
    if bound is None:
        to_value = room(case.value.shape, torch.float32, fill=0)
        start("backward", held.grad, to_value, to_points, to_weights)
    else:
        to_value, sums = room(case.value.shape, case.value.dtype), torch.zeros(case.value.shape, dtype=torch.int64)
        start("backward_fixed", held.grad, torch.tensor([bound]), sums, to_value, to_points, to_weights)
    results = out, to_value, to_points, to_weights
    for tensor in results:
        assert_guards_are_whole(tensor)
    return results


def assert_close(got, wanted):
    for name, ours, theirs in zip(("out", "value", "points", "weights"), got, wanted, strict=True):
        torch.testing.assert_close(
            ours.double(),
            theirs,
            rtol=ROUNDING[ours.dtype],
            atol=2e-5,
            msg=lambda message, name=name: f"{name}: {message}",
        )


@pytest.mark.parametrize("dim", [4, 16, 24, 32, 64, 96])
@pytest.mark.parametrize("fused", [True, False], ids=["reference", "plain"])
@pytest.mark.parametrize("type_pair", TYPE_PAIRS, ids=lambda pair: "-".join(str(t)[6:] for t in pair))
def test_equals_plain_pytorch(emulated, type_pair, fused, dim):
    """L * P of 9 and 12 take more than two rounds of four lanes; 3 is less than one."""
    case = inputs(type_pair, fused=fused, dim=dim, heads=1 + dim % 3, points=[3, 1, 4][dim // 4 % 3], levels=dim % 32)
    assert_close(run(emulated, case), expected(case))


@pytest.mark.parametrize(
    "changes",
    [
        dict(dim=4, points=25, queries=4),
        dict(dim=4, points=10, queries=4, shapes=[(5, 3)]),
        dict(dim=40, points=7, rows=2),
        dict(dim=8, rows=5, levels=1),
        dict(dim=16, shapes=[(1, 1)], points=1, heads=1),
        dict(dim=8, shapes=[(2, 3)] * 16, points=1),
    ],
    ids=str,
)
def test_unusual_shapes(emulated, changes):
    for fused in (True, False):
        case = inputs(fused=fused, **changes)
        assert_close(run(emulated, case), expected(case))


def test_blocks_of_many_warps(emulated):
    """With 128 heads there are enough blocks for 64 groups of queries in each, which does not divide 70."""
    case = inputs(queries=70, heads=128, points=1, shapes=[(3, 2)])
    assert_close(run(emulated, case), expected(case))


def test_value_that_is_not_aligned(emulated):
    case = inputs(dim=32)
    assert_close(run(emulated, case, shift=1), expected(case))


@pytest.mark.parametrize("fused", [True, False], ids=["reference", "plain"])
def test_images_in_any_order(emulated, fused):
    """A query whose image does not exist gives zeros for any logits."""
    images = torch.tensor([2, 0, -1, 1, 1, 3, 0, 2, 2**31 - 1, 0, -(2**31)], dtype=torch.int32)
    case = inputs(fused=fused, batch=3, queries=11, images=images)
    wanted = expected(case)
    case.weights[5] = float("nan")
    got = run(emulated, case)
    assert_close(got, wanted)
    for tensor in (got[0], *got[2:]):
        assert not tensor[(images < 0) | (images > 2)].any()


@pytest.mark.parametrize("fused", [True, False], ids=["reference", "plain"])
def test_edges(emulated, fused):
    """Samples on borders, on pixel centres, outside, at NaN; numbers are exact, so gradients agree even at kinks."""
    nan, inf = float("nan"), float("inf")
    where = [
        (-1, 1),
        (-0.5, 1),
        (0, 0),
        (3, 1),
        (3.5, 1.5),
        (4, 1),
        (1.5, -1),
        (1.5, 2),
        (2, 1.75),
        (9, 1),
        (1, -9),
        (nan, 1),
        (1, nan),
        (inf, 1),
        (1, -inf),
        (1e30, 1),
        (1, -1e30),
        (2**31, 2**31),
    ]
    case = inputs(fused=fused, shapes=[(2, 4)], batch=1, queries=len(where), points=2)
    sizes = torch.tensor([4, 2])
    case.reference = torch.full((1, 1, 2), 0.25) if fused else None
    pixels = torch.tensor(where)[:, None, None, None]
    case.points[:, :, :, :1] = pixels + 0.5 - 0.25 * sizes if fused else (pixels + 0.5) / sizes
    assert_close(run(emulated, case), expected(case))


@pytest.mark.parametrize("dim", [4, 32])
def test_what_is_outside_is_not_read(emulated, dim):
    """If it were read and multiplied by zero, its NaN would reach the output."""
    case = inputs(fused=False, shapes=[(4, 4), (3, 3)], batch=1, queries=8, heads=1, dim=dim)
    case.points[:, :, 0] = torch.tensor([0.125, 0.875])  # the centre of the lower left pixel
    case.points[:, :, 1] = 1.5
    case.value.fill_(float("nan"))[:, 12] = 1
    out, to_value, _, to_weights = run(emulated, case)
    torch.testing.assert_close(out, case.weights[:, :, 0].sum(-1).expand(8, dim))
    assert to_value.isfinite().all() and not to_weights[:, :, 1].any()


@pytest.mark.parametrize("type_pair", TYPE_PAIRS[::2], ids=lambda pair: str(pair[0])[6:])
def test_sums_in_fixed_point(emulated, type_pair):
    """They are as exact as sums in float, and bitwise equal for any order of the blocks."""
    case = inputs(type_pair, dim=40, queries=34)
    results = [run(emulated, case, bound=5.0, seed=seed) for seed in (0, 1, 2)]
    assert_close(results[0], expected(case))
    for other in results[1:]:
        for first, again in zip(results[0], other, strict=True):
            assert torch.equal(first, again)


@pytest.mark.parametrize("size", [1e-38, 1e-20, 1.0, 1e30])
def test_fixed_point_scales_with_the_bound(emulated, size):
    """64 queries with the same four corners, each adding as much as the bound allows, make the largest possible sum."""
    case = inputs(fused=False, shapes=[(2, 2)], batch=1, queries=64, heads=1, dim=4, points=1)
    case.points[:], case.weights[:], case.grad[:] = 0.25, 1, size
    to_value = run(emulated, case, bound=size)[1]
    assert torch.equal(to_value[0, :, 0, 0], torch.tensor([size, 0, 0, 0]) * 64)


def test_bounds_that_are_no_numbers(emulated):
    case = inputs(dim=4)
    for bound in (float("nan"), float("inf"), -float("inf")):
        assert run(emulated, case, bound=bound)[1].isnan().all()
    case.grad.zero_()
    assert not run(emulated, case, bound=0.0)[1].any()


@pytest.mark.parametrize(
    "changes,message",
    [
        (dict(type_pair=(torch.float64, torch.float64)), "must be float32, float16 or bfloat16"),
        (dict(shapes=[(1, 1)] * 17), "at most 16 levels, got 17"),
        (dict(points=1537, shapes=[(2, 2)], queries=2), "at most 1536 sampling points of a query and head, got 1537"),
    ],
)
def test_limits_are_said(emulated, changes, message):
    with pytest.raises(RuntimeError, match=message):
        run(emulated, inputs(**changes))


@pytest.mark.parametrize("mistake", ["lane_returns_early", "lanes_take_different_branches"])
def test_the_emulator_notices_mistakes(emulated, mistake):
    with pytest.raises(RuntimeError, match="lanes of a warp disagree"):
        emulated(mistake)
