"""Print which implementation of deformable attention runs on each device, and why.

Run it as ``python -m token_pruning_ops.info``.
"""

from __future__ import annotations

import os

import torch

from . import build, library


def lines() -> list[str]:
    """Return one line per device."""
    return [f"{device:<4}  {_path(device)}" for device in ("cpu", "cuda")]


def _path(device: str) -> str:
    if device in library.MISSING:
        return f"plain PyTorch: {library.MISSING[device]}; {build.HINT}"
    found = f"compiled: {os.path.relpath(build.library(device))}"
    if device == "cpu":
        return f"{found}, {torch.ops.token_pruning.ms_deform_attn_cpu_instructions()} instructions"
    if not torch.cuda.is_available():
        return f"{found}; torch sees no CUDA device here"
    return f"{found}; {torch.cuda.get_device_name()}"


if __name__ == "__main__":
    print(*lines(), sep="\n")
