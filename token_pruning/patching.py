"""Replace a method on one object, and restore the method of its class.

``nn.Module`` finds ``forward``, ``forward_features`` and the hooks of a reducer by normal attribute lookup, so a
callable set on the instance takes precedence over the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def is_patched(target: object, name: str) -> bool:
    """Return whether method ``name`` of ``target`` was replaced on the instance."""
    return name in vars(target)


def patch_method(target: object, name: str, method: Callable[..., Any] | None) -> None:
    """Replace method ``name`` of ``target`` until further notice; None restores the method of its class."""
    if method is None:
        vars(target).pop(name, None)
    else:
        vars(target)[name] = method


@contextmanager
def patched_method(target: object, name: str, method: Callable[..., Any] | None) -> Iterator[Callable[..., Any]]:
    """Replace method ``name`` of ``target`` in the body of the ``with`` statement.

    Args:
        method: called instead, without ``self``; None for the method of the class, which lifts a replacement that was
            set before (for example to count the operators of a backbone that is compiled).

    Yields:
        The method as it was, bound to ``target``.
    """
    before, previous = vars(target).get(name), getattr(target, name)
    patch_method(target, name, method)
    try:
        yield previous
    finally:
        patch_method(target, name, before)
