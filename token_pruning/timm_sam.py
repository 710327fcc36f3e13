"""timm's SAM encoder with a reducer: windows and global blocks on one grid, see ``apply``.

Shapes: B images, H x W grid, C channels.
"""

from __future__ import annotations

from typing import Any

from timm.layers import resample_abs_pos_embed_nhwc
from timm.models._features import feature_take_indices
from torch import Tensor

from .forward import StackForward
from .recording import refuse_recording
from .tokens import feature_map


def _start(model: Any, image: Tensor) -> StackForward:
    """Embed images (B, 3, h, w) as timm does and return the forward through the blocks, at its start."""
    refuse_recording(image, model.reducer)
    x = model.patch_embed(image)  # (B, H, W, C)
    if model.pos_embed is not None:
        x = x + resample_abs_pos_embed_nhwc(model.pos_embed, x.shape[1:3])
    x = model.norm_pre(model.pos_drop(x))
    return StackForward(
        model.blocks,
        model.reducer,
        x.flatten(1, 2),
        (x.shape[1], x.shape[2]),
        checkpointing=model.grad_checkpointing and model.training,
        execution=model.execution,
    )


def forward_features(model: Any, x: Tensor) -> Tensor:
    """Replace timm's ``forward_features``: images (B, 3, h, w) -> what the neck makes of the restored map."""
    stack = _start(model, x)
    stack.run(0, len(model.blocks) - 1)
    return model.neck(feature_map(stack.finish(), stack.tokens.grid))


def forward_intermediates(
    model: Any,
    x: Tensor,
    indices: int | list[int] | None = None,
    norm: bool = False,
    stop_early: bool = False,
    output_fmt: str = "NCHW",
    intermediates_only: bool = False,
) -> Any:
    """Replace timm's ``forward_intermediates``: the same outputs, each a map with a value at every position.

    Raises:
        ValueError: an unknown ``output_fmt``.
    """
    if output_fmt != "NCHW":
        raise ValueError(f"output_fmt is {output_fmt!r}; the maps of SAM are 'NCHW'")
    taps, _ = feature_take_indices(len(model.blocks), indices)
    stack = _start(model, x)
    grid, maps = stack.tokens.grid, []
    for tap in sorted(set(taps)):
        stack.run_to(tap)
        dense = feature_map(stack.map(), grid)
        maps.append(model.neck(dense) if norm else dense)
    if intermediates_only and stop_early:
        return maps
    if not stop_early:
        stack.run_to(len(model.blocks) - 1)
    final = stack.finish()
    return maps if intermediates_only else (model.neck(feature_map(final, grid)), maps)
