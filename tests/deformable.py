"""Helpers for deformable attention in tests: its paths (``with on(path) as device``), small inputs, gradients."""

from contextlib import contextmanager, nullcontext

import pytest
import torch

from token_pruning_ops import library, plain

SHAPES = [(6, 8), (3, 4), (1, 1)]
PATHS = [
    "cpu compiled",
    "cpu plain",
    pytest.param("cuda compiled", marks=pytest.mark.cuda),
    pytest.param("cuda plain", marks=pytest.mark.cuda),
]


@contextmanager
def on(path):
    """Run the body on a path and yield the device; skip the test if the library was not compiled."""
    device, way = path.split()
    if way == "compiled" and device in library.MISSING:
        pytest.skip(f"no compiled library for {device}: {library.MISSING[device]}")
    with plain() if way == "plain" else nullcontext():
        yield torch.device(device)


def inputs(batch=2, queries=5, heads=3, dim=4, points=2, dtype=torch.float32, shapes=SHAPES, device="cpu"):
    """Return value, locations (away from pixel centres, where gradients jump) and weights."""
    generator = torch.Generator().manual_seed(0)

    def random(*size):
        return torch.rand(*size, generator=generator, dtype=torch.float64)

    value = random(batch, sum(h * w for h, w in shapes), heads, dim) - 0.5
    locations = random(batch, queries, heads, len(shapes), points, 2) * 1.6 - 0.3
    sizes = torch.tensor([(w, h) for h, w in shapes])[:, None]
    pixels = locations * sizes - 0.5
    pixels = pixels.floor() + (pixels - pixels.floor()).clamp(0.05, 0.95)
    weights = random(batch, queries, heads, len(shapes) * points).softmax(-1).view(locations.shape[:-1])
    return [t.to(device, dtype) for t in (value, (pixels + 0.5) / sizes, weights)]


def raw_inputs(batch=2, queries=5, heads=3, dim=4, points=2, dtype=torch.float32, device="cpu", reference=(1, 1)):
    """Return value, reference points, offsets and logits."""
    value, _, _ = inputs(batch, queries, heads, dim, points, dtype, device=device)
    torch.manual_seed(0)
    of = (queries, heads, len(SHAPES))
    tensors = (
        torch.rand(reference[0], queries, reference[1], 2),
        2 * torch.randn(batch, *of, points, 2),
        torch.randn(batch, *of[:2], of[2] * points),
    )
    return [value, *(t.to(device, dtype) for t in tensors)]


def gradients(function, tensors, fixed=()):
    """Return the output and the gradients of all tensors (None for those whose index is in ``fixed``)."""
    tensors = [t.detach().clone().requires_grad_(i not in fixed) for i, t in enumerate(tensors)]
    out = function(*tensors)
    out.sin().sum().backward()
    return [out.detach(), *(t.grad for t in tensors)]
