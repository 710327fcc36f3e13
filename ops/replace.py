"""Make other libraries compute deformable attention with this operator."""

from __future__ import annotations

import importlib
import sys

from torch import Tensor, nn

from .functional import ms_deform_attn


def replace_deformable_attention(*libraries: str) -> list[str]:
    """Let MMCV and transformers call this operator, in models that exist and in those that are built later.

    Call it after importing the model classes of transformers: a module that is imported later keeps its own function.
    Inputs, outputs and weights stay as they are.

    Args:
        libraries: "mmcv", "transformers"; both by default.

    Returns:
        What was replaced, such as "mmcv.ops.MultiScaleDeformableAttention"; empty if neither library is there.

    Raises:
        ValueError: another library.
    """
    known = dict(mmcv=_replace_in_mmcv, transformers=_replace_in_transformers)
    for name in libraries:
        if name not in known:
            raise ValueError(f"deformable attention can be replaced in {', '.join(known)}, not in {name!r}")
    return [found for name in libraries or known for found in known[name]()]


def _replace_in_mmcv() -> list[str]:
    try:
        module = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
    except ImportError:
        return []
    vars(module).update(MultiScaleDeformableAttnFunction=_Function, multi_scale_deformable_attn_pytorch=_attention)
    return ["mmcv.ops.MultiScaleDeformableAttention"]


def _replace_in_transformers() -> list[str]:
    found = []
    for name, module in sorted(sys.modules.items()):
        kind = vars(module).get("MultiScaleDeformableAttention") if name.startswith("transformers.models.") else None
        if isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__module__ == name:
            kind.forward = _forward
            found.append(f"{name}.MultiScaleDeformableAttention")
    return found


def _attention(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Take the arguments of MMCV's function: ``shapes`` (L, 2) is a tensor, which is read from its device."""
    return ms_deform_attn(value, [(int(h), int(w)) for h, w in shapes.tolist()], locations, weights)


class _Function:
    """Stands for MMCV's autograd function; its level starts and its step follow from the other arguments."""

    @staticmethod
    def apply(
        value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor, step: int = 64
    ) -> Tensor:
        return _attention(value, shapes, locations, weights)


def _forward(
    self: nn.Module,
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_spatial_shapes_list: list[tuple[int, int]],
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Stand for the forward of transformers' module, whose argument names callers use."""
    shapes = [(int(h), int(w)) for h, w in value_spatial_shapes_list]
    return ms_deform_attn(value, shapes, sampling_locations, attention_weights)
