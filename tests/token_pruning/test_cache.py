"""Caches by size are bounded, and keep what a captured CUDA graph reads."""

import ast
from pathlib import Path

import pytest
import torch

from mmdet_custom.backbones.geometry import adapter_geometry
from token_pruning import cache
from token_pruning.components import ranking
from token_pruning.positions import _bicubic

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
# Module-level caches without a limit, and why each needs none.
UNBOUNDED = {
    "ops/library.py:_new_enough": "one entry per device",
    "token_pruning/option_types.py:_hints": "one entry per class",
}


def test_the_last_used_sizes_stay():
    made = []
    square = cache.cached_by_size(2)(lambda n: made.append(n) or n * n)
    assert [square(n) for n in (1, 2, 1, 3, 1, 2)] == [1, 4, 1, 9, 1, 4]
    assert made == [1, 2, 3, 2]


def test_what_a_graph_reads_stays_for_good(monkeypatch):
    made, capturing = [], [False]
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing[0])
    zeros = cache.cached_by_size(2)(lambda n, device: made.append(n) or torch.zeros(n))
    cuda = torch.device("cuda")
    warm = zeros(1, cuda)
    capturing[0] = True
    assert zeros(1, cuda) is warm
    capturing[0] = False
    for n in range(2, 9):
        zeros(n, cuda)
    assert zeros(1, cuda) is warm and made.count(1) == 1


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda n: adapter_geometry((2 * n, 2), CPU).injector_points, 64),
        (lambda n: ranking._draw(n, 2, 0, CPU), 512),
        (lambda n: _bicubic(n, 3, False, CPU), 256),
    ],
    ids=["geometry", "noise", "matrices"],
)
def test_no_size_is_kept_for_ever(make, limit):
    first, again = make(1), make(1)
    assert first is again
    for n in range(2, limit + 2):
        make(n)
    assert make(1) is not first and torch.equal(make(1), first)


def test_no_other_function_keeps_results_without_a_limit():
    found = set()
    for path in [p for name in ("token_pruning", "ops", "tools") for p in (ROOT / name).rglob("*.py")] + [
        p for p in ROOT.glob("mm*_custom/**/*.py")
    ]:
        for node in ast.parse(path.read_text()).body:
            for decorator in getattr(node, "decorator_list", []):
                if ast.unparse(decorator) in ("cache", "functools.cache", "lru_cache(None)", "lru_cache(maxsize=None)"):
                    found.add(f"{path.relative_to(ROOT)}:{node.name}")
    assert found == set(UNBOUNDED)
