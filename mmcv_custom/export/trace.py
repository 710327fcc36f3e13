"""One graph of tensor operations from a module, by ``torch.export``.

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from token_pruning.errors import SettingError

from ..errors import ConfigError

DYNAMIC = ("batch", "size")
MASKED = "attn_mask_probs"


def traced(
    graph: nn.Module, images: Tensor, dynamic: Sequence[str] = (), strides: int = 32, compiled: bool = False
) -> ExportedProgram:
    """Return the program of ``graph`` on ``images`` (B, 3, h, w).

    Args:
        graph: in evaluation mode.
        images: example; what is not dynamic keeps its size for good.
        dynamic: "batch" for any B, "size" for any h and w that are multiples of ``strides``.
        compiled: keep deformable attention as this project's operator, where that is compiled; else it is written in
            operators that every format has.

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
        with warnings.catch_warnings(), torch.no_grad(), _attention(compiled), _fixed(graph), _thinned():
            warnings.simplefilter("ignore")
            program = torch.export.export(graph, (images,), dynamic_shapes=(dims,) if dims else None, strict=False)
            _check_free(graph, program, others(images, 0 in dims, strides if 2 in dims else None), dynamic)
            return program.run_decompositions({})  # no operator that writes into its input
    except (SettingError, ConfigError):
        raise
    except Exception as error:  # torch has no common base for what export raises
        raise ConfigError(_reason(graph, error, dynamic)) from error


def others(images: Tensor, batch: bool, multiple: int | None) -> list[Tensor]:
    """Return images of other shapes than ``images`` (B, 3, h, w), that a free batch and a free size allow.

    Args:
        images: example, B at least 2 if the batch is free.
        batch: another number of images is allowed.
        multiple: of which other sides are multiples; None if the size is not free.
    """
    found = []
    if multiple:
        size = (images.shape[2] + multiple, images.shape[3] + 2 * multiple)
        found = [F.interpolate(images, size)]
    if batch:
        largest = found[-1] if found else images
        found = [images[:1], torch.cat([largest, largest[:1].flip(3)])]
    return found


def _check_free(graph: nn.Module, program: ExportedProgram, shapes: Sequence[Tensor], dynamic: Sequence[str]) -> None:
    """Raise ConfigError if the program refuses one of the ``others``."""
    if not shapes:
        return
    module = program.module()
    try:
        for images in shapes:
            module(images)
    except AssertionError as error:  # torch.export assumed something of the example's shape
        raise ConfigError(
            f"{_kind(graph)} does not take a free {' and '.join(dynamic)}: torch.export assumes "
            f"{str(error).removeprefix('Guard failed: ')}; leave less free, or give a larger --shape"
        ) from error


def _attention(compiled: bool) -> AbstractContextManager:
    """Return the context in which deformable attention is written as one operator, or in PyTorch's own."""
    from token_pruning_ops import grid_sample, library

    return nullcontext() if compiled and "cpu" not in library.MISSING else grid_sample()


@contextmanager
def _fixed(graph: nn.Module) -> Iterator[None]:
    """Fix what modules of the graph decide by in the body.

    Maps stay contiguous: a graph that relies on their layout breaks where a format changes it. The EoMT of transformers
    reads from a buffer which layers predict masks; in the body it reads numbers.
    """
    hosts = [(module, module.channels_last) for module in graph.modules() if hasattr(module, "channels_last")]
    masked = [(module, module._buffers.pop(MASKED)) for module in graph.modules() if MASKED in module._buffers]
    try:
        for host, _ in hosts:
            host.channels_last = False
        for module, values in masked:
            setattr(module, MASKED, values.tolist())
        yield
    finally:
        for host, value in hosts:
            host.channels_last = value
        for module, values in masked:
            delattr(module, MASKED)
            module._buffers[MASKED] = values


@contextmanager
def _thinned() -> Iterator[None]:
    """Write pooling of single pixels, by which a pyramid gets its smallest map, as a slice.

    torch.export takes the parity of the map's sides in a pooling for given, and then refuses every other free size.
    """
    pool = F.max_pool2d

    def thin(x: Tensor, kernel_size: object, stride: object = None, *args: object, **options: object) -> Tensor:
        if kernel_size == 1 and isinstance(stride, int) and not args and not options:
            return x[..., ::stride, ::stride]
        return pool(x, kernel_size, stride, *args, **options)

    with patch.object(F, "max_pool2d", thin):
        yield


def _kind(graph: nn.Module) -> str:
    return type(getattr(graph, "model", graph)).__name__


def _reason(graph: nn.Module, error: Exception, dynamic: Sequence[str]) -> str:
    kind = _kind(graph)
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if "marked" in str(error) and "constant" in str(error):
        return f"{kind} does not take a free {' or '.join(dynamic)}: export it without --dynamic ({said})"
    return f"{kind} cannot be exported: torch.export says {said}"
