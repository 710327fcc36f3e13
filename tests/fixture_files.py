"""Recorded numbers of the published systems: every ``.pt`` file below one folder, selected by its own keys.

``PARITY_FIXTURES`` names the folder; without it ``../shared/fixtures`` beside the checkout if it exists, else
``tests/fixtures``, which holds one small record of each kind. Kinds that the named folder lacks come from there.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "tests" / "fixtures"


def folder() -> Path:
    named = os.environ.get("PARITY_FIXTURES")
    if named:
        return Path(named)
    shared = ROOT.parent / "shared" / "fixtures"
    return shared if shared.is_dir() else SHIPPED


@cache
def _all(root: Path) -> dict[str, dict]:
    return {str(path.relative_to(root)): torch.load(path, weights_only=True) for path in sorted(root.rglob("*.pt"))}


def where(wanted: Callable[[dict], bool]) -> list:
    """Return the parameters of the named folder's records that are ``wanted``, else of the shipped ones."""
    for root in (folder(), SHIPPED):
        found = [
            pytest.param(content, id=name)
            for name, content in _all(root).items()
            if isinstance(content, dict) and wanted(content)
        ]
        if found:
            return found
    return []


def of_kind(kind: str) -> list:
    """Return parameters for ``pytest.mark.parametrize``: the records of this kind, named by their paths."""
    return where(lambda content: content.get("kind") == kind)


def of_method(method: str) -> list:
    """Return the same for records that name a ``method`` instead of a kind."""
    return where(lambda content: content.get("method") == method and "kind" not in content)


def of_schema(schema: str, having: str = "") -> list:
    """Return the same for records of a ``schema`` that, if a key is named, are ``having`` it."""
    return where(lambda content: content.get("schema") == schema and (not having or having in content))


def close(actual: torch.Tensor, wanted: torch.Tensor, atol: float = 1e-5, rtol: float = 1e-4) -> None:
    torch.testing.assert_close(actual, wanted, atol=atol, rtol=rtol)
