"""The protocol of a host: the vision transformer that runs its blocks through ``StackForward`` under a reducer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeGuard

from torch import nn

from .errors import SettingError
from .reducer import Reducer


class Host(Protocol):
    """What tools may rely on in a backbone of this project, or in a model after ``token_pruning.apply``.

    In a model of ``transformers`` the host is the vision tower inside, and its ``blocks`` are adapters.

    Attributes:
        blocks: the transformer blocks, in order.
        reducer: the token pruning method, or None for the dense model.
        execution: "exact" or "capacity", see ``StackForward``; may be changed at any time.
        embed_dim: C, channels of a token.
        patch_embed: has ``patch_size``, a pair of pixels.
        training: as of every ``nn.Module``.
    """

    blocks: nn.ModuleList | nn.Sequential
    reducer: Reducer | None
    execution: str
    embed_dim: int
    patch_embed: nn.Module
    training: bool


MEMBERS = tuple(Host.__annotations__)


def is_host(module: object) -> TypeGuard[Host]:
    """Return whether ``module`` itself (not its backbone) is a host."""
    # Not isinstance() of a runtime protocol: from Python 3.12 on, that does not see what nn.Module.__getattr__ finds.
    return isinstance(module, nn.Module) and all(hasattr(module, name) for name in MEMBERS)


def find_host(model: object) -> Host | None:
    """Return the host in ``model``: its ``backbone``, ``model`` itself, or the first inside; None without one."""
    inside = model.modules() if isinstance(model, nn.Module) else ()
    return next((part for part in (getattr(model, "backbone", None), model, *inside) if is_host(part)), None)


def require_host(model: object, what: str) -> Host:
    """Return the host in ``model`` for ``what``, the option or function that needs it.

    Raises:
        SettingError: there is none.
    """
    host = find_host(model)
    if host is None:
        kind, backbone = type(model).__name__, getattr(model, "backbone", None)
        raise SettingError(
            f"{what} needs a ViT backbone of this project (TimmViT, PlainViTBackbone, ViTAdapter, ...), and "
            f"{kind + ' is none' if backbone is None else f'{kind} has {type(backbone).__name__}'}"
        )
    return host


def attends_in_windows(name: str, part: str) -> str:
    """Return the sentence that refuses a model ``name`` whose ``part`` attends in windows."""
    return (
        f"{name} attends in windows of its map ({part}), so its blocks need every token of the grid and none can "
        "leave; the method for windows is CubistMerge, which keeps the map a grid, on SAM, SAM 3, ViTDet and this "
        "project's own windowed hosts"
    )


def check_windowed(reducer: Reducer, name: str, part: str, windows: Sequence[int | None]) -> None:
    """Check that a method leaves a grid to a model whose blocks, the global ones too, attend on a grid.

    Args:
        reducer: the method.
        name: class of the model.
        part: class of what attends.
        windows: of each block, the side of its windows; None for global attention.

    Raises:
        SettingError: it does not say which windows it leaves (``check_windows``), or those do not fit.
    """
    if type(reducer).check_windows is Reducer.check_windows:
        raise SettingError(attends_in_windows(name, part))
    reducer.check_windows(windows)
