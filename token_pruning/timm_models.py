"""timm's plain vision transformers by name, and which of them the core can run."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import timm
from timm.layers import Attention, AttentionRope, PatchEmbed
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from timm.models.vision_transformer_sam import Block as SamBlock
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import nn

from .errors import SettingError
from .host import attends_in_windows

RUNNABLE = (Attention, EvaAttention, AttentionRope)
# Modules of timm.models whose networks attend in windows.
WINDOWED = frozenset(
    "swin_transformer swin_transformer_v2 swin_transformer_v2_cr vision_transformer_sam hiera hieradet_sam2".split()
)


def create_timm(model_name: str, **kwargs: Any) -> nn.Module:
    """Call ``timm.create_model``, with a clear error for an unknown name or a size that is none.

    Raises:
        SettingError: there is no such model (the message has the closest names), or ``img_size`` is no side and no pair
            of sides.
    """
    size = kwargs.get("img_size")
    sides = [size] * 2 if isinstance(size, int) else size
    if sides is not None and not (
        isinstance(sides, Sequence) and len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides)
    ):
        raise SettingError(f"img_size is {size!r}: give a side in pixels, or (height, width)")
    if not timm.is_model(model_name):
        near = difflib.get_close_matches(model_name, timm.list_models(), n=3, cutoff=0.6)
        meant = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() lists all names"
        raise SettingError(f"timm has no model {model_name!r}: {meant}")
    return timm.create_model(model_name, **kwargs)


def create_trunk(model_name: str, **kwargs: Any) -> Any:
    """Build the timm model of that name without classification head, for images of any size.

    Args:
        kwargs: arguments of the timm model; None leaves timm's value.

    Raises:
        SettingError: there is no such model, it is no plain vision transformer, or it does not accept an argument.
    """
    given = {name: value for name, value in kwargs.items() if value is not None}
    try:
        model: Any = create_timm(model_name, num_classes=0, dynamic_img_size=True, **given)
        check_plain(model)
    except TypeError as error:
        raise SettingError(
            f"model_name {model_name!r} cannot be a backbone: {error}; take a plain vision transformer of timm (DeiT, "
            "AugReg, DINOv2, DINOv3, CLIP, SigLIP, EVA-02, ...) and arguments that it has"
        ) from None
    if type(model.patch_embed) is not PatchEmbed:
        raise SettingError(
            f"model_name {model_name!r} cannot be a backbone: it embeds patches by {type(model.patch_embed).__name__}, "
            "and a backbone needs timm's PatchEmbed"
        )
    return model


def check_plain(model: Any) -> None:
    """Check that the core can run the blocks of a timm model.

    Raises:
        TypeError: it cannot; the message names the part.
    """
    kind, name = type(model), type(model).__name__
    host = next((host for host in (VisionTransformer, Eva) if isinstance(model, host)), None)
    if kind.__module__.rpartition(".")[2] in WINDOWED:
        # SAM runs by `apply`; as a backbone of this project a ViT has no windows of timm's.
        raise TypeError(attends_in_windows(name, kind.__module__))
    if host is None or kind.forward_features is not host.forward_features:
        raise TypeError(
            f"{name} is not run by timm's VisionTransformer.forward_features or Eva's, so its blocks "
            "cannot be given a reducer; hosts of other kinds use token_pruning.StackForward"
        )
    for i, block in enumerate(model.blocks):
        if not isinstance(block, (Block, EvaBlock)) or not isinstance(block.attn, RUNNABLE):
            found = type(block).__name__ + (f" with {type(block.attn).__name__}" if isinstance(block, Block) else "")
            raise TypeError(
                f"block {i} of {name} is a {found}, and only timm's Block and EvaBlock with their own "
                "attention can be run on a subset of the tokens"
            )
        if getattr(block.attn, "num_kv_groups", 1) > 1:
            raise TypeError(f"block {i} of {name} has fewer key heads than query heads, which the core cannot run")
    if getattr(model, "rope_mixed", False):
        raise TypeError(f"{name} has different rotary position embeddings in each block, which the core cannot run")
    if getattr(model.patch_drop, "prob", 0):
        raise TypeError(
            f"{name} drops patches in training (patch_drop_rate), so the map has no position for them; "
            "create it with patch_drop_rate=0"
        )


def check_sam(model: Any) -> None:
    """Check that the core can run the blocks of a ``VisionTransformerSAM``.

    Raises:
        TypeError: it cannot; the message names the part.
    """
    name = type(model).__name__
    if type(model).forward_features is not VisionTransformerSAM.forward_features:
        raise TypeError(f"{name} has a forward_features of its own, so its blocks cannot be given a reducer")
    for i, block in enumerate(model.blocks):
        if type(block) is not SamBlock:
            raise TypeError(f"block {i} of {name} is a {type(block).__name__}, and only timm's block of SAM can be run")
        if block.attn.rope is not None:
            raise TypeError(f"{name} has rotary positions of one grid (use_rope), which the core cannot run")
    if getattr(model.patch_drop, "prob", 0):
        raise TypeError(
            f"{name} drops patches in training (patch_drop_rate), so the map has no position for them; "
            "create it with patch_drop_rate=0"
        )
