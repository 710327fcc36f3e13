"""Print which implementation of deformable attention runs on each device, and why; and whether MMCV's are compiled.

Run it as ``python -m token_pruning_ops.info``.
"""

from __future__ import annotations

import os
from importlib import metadata

import torch

from . import build, library


def lines() -> list[str]:
    """Return one line per device, and one for MMCV."""
    return [*(f"{device:<4}  {_path(device)}" for device in ("cpu", "cuda")), f"mmcv  {_mmcv()}"]


def _path(device: str) -> str:
    if device in library.MISSING:
        return f"plain PyTorch: {library.MISSING[device]}; {build.hint()}"
    found = f"compiled: {os.path.relpath(build.library(device))}"
    if device == "cpu":
        return f"{found}, {torch.ops.token_pruning.ms_deform_attn_cpu_instructions()} instructions"
    if not torch.cuda.is_available():
        return f"{found}; torch sees no CUDA device here"
    return f"{found}; {torch.cuda.get_device_name()}"


def _mmcv() -> str:
    try:
        files = metadata.files("onedl-mmcv") or []
    except metadata.PackageNotFoundError:
        return "not installed"
    if any(file.name.startswith("_ext.") for file in files):
        return "with its compiled operators"
    return (
        "without compiled operators: NMS and RoIAlign are torchvision's; `make setup MMCV=compiled` in the checkout "
        "compiles all"
    )


if __name__ == "__main__":
    print(*lines(), sep="\n")
