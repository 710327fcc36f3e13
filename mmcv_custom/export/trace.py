"""One graph of tensor operations from a module, by ``torch.export``.

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

import token_pruning.positions  # noqa: F401  registers token_pruning::resample
from token_pruning.errors import SettingError

from ..errors import ConfigError

DYNAMIC = ("batch", "size")


def _resampled(maps: Tensor, rows: int, columns: int, adjoint: bool, antialias: bool = False) -> Tensor:
    """Compute ``token_pruning.positions.resample`` by PyTorch's own operator, which all formats have."""
    planes = maps.permute(0, 3, 1, 2)
    planes = F.interpolate(planes, (rows, columns), mode="bicubic", align_corners=False, antialias=antialias)
    return planes.permute(0, 2, 3, 1).contiguous()


# Own operators, which the files must do without.
DECOMPOSITIONS = {torch.ops.token_pruning.resample.default: _resampled}


def traced(graph: nn.Module, images: Tensor, dynamic: Sequence[str] = (), strides: int = 32) -> ExportedProgram:
    """Return the program of ``graph`` on ``images`` (B, 3, h, w).

    Args:
        graph: in evaluation mode.
        images: example; what is not dynamic keeps its size for good.
        dynamic: "batch" for any B, "size" for any h and w that are multiples of ``strides``.

    Raises:
        ConfigError: the model decides in Python what it computes, or has a fixed size where a free one is asked for.
    """
    unknown = [name for name in dynamic if name not in DYNAMIC]
    if unknown:
        raise ConfigError(f"{', '.join(unknown)} cannot be dynamic: choose from {', '.join(DYNAMIC)}")
    dims: dict[int, object] = {}
    if "batch" in dynamic:
        dims[0] = Dim("batch", min=1, max=1024)
    if "size" in dynamic:
        dims[2] = strides * Dim("rows", min=2, max=256)
        dims[3] = strides * Dim("columns", min=2, max=256)
    try:
        with warnings.catch_warnings(), torch.no_grad(), _portable_operators():
            warnings.simplefilter("ignore")
            program = torch.export.export(graph, (images,), dynamic_shapes=(dims,) if dims else None, strict=False)
            return program.run_decompositions(DECOMPOSITIONS)
    except SettingError:
        raise
    except Exception as error:  # torch has no common base for what export raises
        raise ConfigError(_reason(graph, error, dynamic)) from error


def _portable_operators() -> AbstractContextManager:
    """Return the context in which deformable attention is written in operators that every format has."""
    import token_pruning_ops

    return getattr(token_pruning_ops, "grid_sample", token_pruning_ops.plain)()


def _reason(graph: nn.Module, error: Exception, dynamic: Sequence[str]) -> str:
    kind = type(getattr(graph, "model", graph)).__name__
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if "marked" in str(error) and "constant" in str(error):
        return f"{kind} does not take a free {' or '.join(dynamic)}: export it without --dynamic ({said})"
    return f"{kind} cannot be exported: torch.export says {said}"
