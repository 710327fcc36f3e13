"""Resample position tables to another grid.

Shapes: B tables, h x w and H x W grids, C channels.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_positions(table: Tensor, old: tuple[int, int], new: tuple[int, int], antialias: bool = False) -> Tensor:
    """Resample a position table (1, h * w, C) of grid ``old`` to grid ``new`` (bicubic, ``align_corners=False``).

    Args:
        antialias: as timm does for its models; ViT-Adapter, DeiT's detectors and mmsegmentation do not.
    """
    # A free size of torch.export is a symbol and not compared, which would make the graph one for other sizes only.
    if all(isinstance(n, int) for n in new) and tuple(old) == tuple(new):
        return table
    if torch.compiler.is_exporting():  # an operator that other runtimes have
        maps = table.unflatten(1, old).permute(0, 3, 1, 2).float()
        maps = F.interpolate(maps, new, mode="bicubic", align_corners=False, antialias=antialias)
        return maps.flatten(2).transpose(1, 2).to(table.dtype)
    return resample(table.unflatten(1, old), *new, False, antialias).flatten(1, 2)


# A custom operator, so that torch.compile does not trace how the matrices are made, the products do not count as GMACs
# of the model, and autocast does not round them.
@torch.library.custom_op("token_pruning::resample", mutates_args=())
def resample(maps: Tensor, rows: int, columns: int, adjoint: bool, antialias: bool = False) -> Tensor:
    """Resample maps (B, h, w, C) to (B, rows, columns, C) as bicubic ``F.interpolate`` does; or apply its adjoint.

    Two matrix products, because on CUDA ``F.interpolate`` takes a millisecond for the position table of an image of
    800 x 1344 pixels, and its backward is not deterministic.
    """
    matrices = []
    for old, new in ((maps.shape[1], rows), (maps.shape[2], columns)):
        matrix = _bicubic(new, old, antialias, maps.device).T if adjoint else _bicubic(old, new, antialias, maps.device)
        matrices.append(matrix)
    with torch.autocast(maps.device.type, enabled=False):
        out = torch.einsum("Hh,bhwc->bHwc", matrices[0], maps.float())
        return torch.einsum("Ww,bhwc->bhWc", matrices[1], out).to(maps.dtype).contiguous()


@resample.register_fake
def _(maps: Tensor, rows: int, columns: int, adjoint: bool, antialias: bool = False) -> Tensor:
    return maps.new_empty(len(maps), rows, columns, maps.shape[3])


def _keep_size(ctx: Any, inputs: tuple[Tensor, int, int, bool, bool], output: Tensor) -> None:
    ctx.size, (*_, ctx.adjoint, ctx.antialias) = inputs[0].shape[1:3], inputs


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
    return resample(gradient, *ctx.size, not ctx.adjoint, ctx.antialias), None, None, None, None


resample.register_autograd(_backward, setup_context=_keep_size)


@cache  # without eviction: captured CUDA graphs keep reading the matrices
def _bicubic(old: int, new: int, antialias: bool, device: torch.device) -> Tensor:
    """Return the matrix (new, old) of bicubic interpolation along one axis: the identity, interpolated."""
    with torch.inference_mode(False), torch.no_grad():
        identity = torch.eye(old, dtype=torch.float64)[None, None]
        matrix = F.interpolate(identity, (new, old), mode="bicubic", align_corners=False, antialias=antialias)
        return matrix[0, 0].to(device, torch.float32).contiguous()
