"""One graph of tensor operations from a module, by ``torch.export``.

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from token_pruning.errors import SettingError

from ..errors import ConfigError

DYNAMIC = ("batch", "size")


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
        with warnings.catch_warnings(), torch.no_grad(), _portable_operators(), _contiguous(graph):
            warnings.simplefilter("ignore")
            program = torch.export.export(graph, (images,), dynamic_shapes=(dims,) if dims else None, strict=False)
            return program.run_decompositions({})  # no operator that writes into its input
    except SettingError:
        raise
    except Exception as error:  # torch has no common base for what export raises
        raise ConfigError(_reason(graph, error, dynamic)) from error


def _portable_operators() -> AbstractContextManager:
    """Return the context in which deformable attention is written in operators that every format has."""
    from token_pruning_ops import grid_sample

    return grid_sample()


@contextmanager
def _contiguous(graph: nn.Module) -> Iterator[None]:
    """Keep maps contiguous in the body: a graph that relies on the layout of maps breaks where a format changes it."""
    hosts = [module for module in graph.modules() if hasattr(module, "channels_last")]
    before = [host.channels_last for host in hosts]
    for host in hosts:
        host.channels_last = False
    try:
        yield
    finally:
        for host, value in zip(hosts, before, strict=True):
            host.channels_last = value


def _reason(graph: nn.Module, error: Exception, dynamic: Sequence[str]) -> str:
    kind = type(getattr(graph, "model", graph)).__name__
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if "marked" in str(error) and "constant" in str(error):
        return f"{kind} does not take a free {' or '.join(dynamic)}: export it without --dynamic ({said})"
    return f"{kind} cannot be exported: torch.export says {said}"
