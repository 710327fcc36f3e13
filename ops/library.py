"""The compiled libraries: loaded once, at import, and what became of each. A library that is missing breaks nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from . import build

CUDA_LEVELS = 16  # the level table is a kernel argument there
OLDEST = (8, 0)  # compute capability
CUDA_TYPES = (torch.float32, torch.float16, torch.bfloat16)
CPU_TYPES = (*CUDA_TYPES, torch.float64)

# Device type -> why its library is not there; a device whose library is loaded is not listed.
MISSING: dict[str, str] = {}
_warned: set[str] = set()
_plain = False


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
        MISSING[device] = "the library there is of other sources than those in ops/src"
    else:
        MISSING[device] = "it was not compiled"


_load("cpu")
_load("cuda")


@contextmanager
def plain() -> Iterator[None]:
    """Within it every call takes plain PyTorch: to compare, to measure, to export to what knows no custom operator."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


@cache
def _new_enough(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= OLDEST


def compiled(value: Tensor, levels: int) -> bool:
    """Whether the compiled operator computes for this value tensor; says once per device why it cannot."""
    device = value.device.type
    if _plain or device not in ("cpu", "cuda"):
        return False
    if device in MISSING:
        if device not in _warned and not torch.compiler.is_compiling():
            _warned.add(device)
            warnings.warn(
                f"deformable attention on {device} runs in plain PyTorch, several times slower than "
                f"compiled: {MISSING[device]}; {build.HINT}",
                stacklevel=4,
            )
        return False
    if device == "cuda":
        return value.dtype in CUDA_TYPES and levels <= CUDA_LEVELS and _new_enough(value.device)
    return value.dtype in CPU_TYPES
