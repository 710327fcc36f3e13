"""Loading of the compiled libraries at import; without them plain PyTorch is used."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from . import build

CUDA_LEVELS = 16  # the table of levels is a kernel argument of fixed size
OLDEST = (8, 0)  # oldest compute capability that the kernels support
CUDA_TYPES = (torch.float32, torch.float16, torch.bfloat16)
CPU_TYPES = (*CUDA_TYPES, torch.float64)

# Device type -> why its library is not loaded; a device whose library is loaded has no entry.
MISSING: dict[str, str] = {}
_warned: set[str] = set()
_way = "compiled"


def _load(device: str) -> None:
    path, build_log = build.library(device), build.build_log(device)
    if device == "cuda" and "cpu" in MISSING:
        MISSING[device] = "the CPU library, which defines the operators, is not loaded"
    elif path.exists():
        try:
            torch.ops.load_library(path)
        except OSError as error:
            MISSING[device] = f"{path} does not load: {error}"
    elif build_log.exists():
        MISSING[device] = build_log.read_text().strip()
    elif any(build.LIBRARIES.glob(f"msda_{device}-*.so")):
        MISSING[device] = "the library in ops/lib was built from other sources than those in ops/src"
    else:
        MISSING[device] = "it was not compiled"


_load("cpu")
_load("cuda")


@contextmanager
def plain() -> Iterator[None]:
    """Run every call in the body in plain PyTorch: to compare, to measure, or to export without custom operators."""
    with _by("plain"):
        yield


@contextmanager
def grid_sample() -> Iterator[None]:
    """Run every call in the body by ``F.grid_sample``: to export to runtimes that have GridSample (ONNX, OpenVINO).

    In at least single precision. Calls on packed queries run in plain PyTorch as in ``plain``.
    """
    with _by("grid_sample"):
        yield


@contextmanager
def _by(way: str) -> Iterator[None]:
    global _way
    before, _way = _way, way
    try:
        yield
    finally:
        _way = before


def by_grid_sample() -> bool:
    """Return whether calls run in the body of ``grid_sample``."""
    return _way == "grid_sample"


@cache
def _new_enough(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= OLDEST


def compiled(value: Tensor, levels: int) -> bool:
    """Return whether the compiled operator supports this value tensor; warn once per device if it is missing."""
    device = value.device.type
    if _way != "compiled" or device not in ("cpu", "cuda"):
        return False
    if device in MISSING:
        if device not in _warned and not torch.compiler.is_compiling():
            _warned.add(device)
            text = f"deformable attention on {device} runs in plain PyTorch, several times slower than compiled: "
            # Of this package, and of no line: the one that called it, somewhere in torch, would be printed, too.
            warnings.warn_explicit(text + f"{MISSING[device]}; {build.hint()}", UserWarning, "token_pruning_ops", 0)
        return False
    if device == "cuda":
        return value.dtype in CUDA_TYPES and levels <= CUDA_LEVELS and _new_enough(value.device)
    return value.dtype in CPU_TYPES
