"""The recorded numbers of the published systems: every ``.pt`` file below one folder, chosen by its own keys.

``PARITY_FIXTURES`` names the folder; without it ``../shared/fixtures`` beside the checkout if it exists, else
``tests/fixtures``, which holds a few small ones.
"""

import os
from functools import cache
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def folder() -> Path:
    named = os.environ.get("PARITY_FIXTURES")
    if named:
        return Path(named)
    shared = ROOT.parent / "shared" / "fixtures"
    return shared if shared.is_dir() else ROOT / "tests" / "fixtures"


@cache
def _all() -> dict[str, dict]:
    root = folder()
    return {str(path.relative_to(root)): torch.load(path, weights_only=True) for path in sorted(root.rglob("*.pt"))}


def of_kind(kind: str) -> list:
    """Parameters for ``pytest.mark.parametrize``: the content of each file of this kind, named by its path."""
    return [
        pytest.param(content, id=name)
        for name, content in _all().items()
        if isinstance(content, dict) and content.get("kind") == kind
    ]


def of_method(method: str) -> list:
    """The same for files that name a ``method`` instead of a kind."""
    return [
        pytest.param(content, id=name)
        for name, content in _all().items()
        if isinstance(content, dict) and content.get("method") == method and "kind" not in content
    ]


def close(actual: torch.Tensor, wanted: torch.Tensor, atol: float = 1e-5, rtol: float = 1e-4) -> None:
    torch.testing.assert_close(actual, wanted, atol=atol, rtol=rtol)
