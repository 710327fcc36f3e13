"""timm's plain vision transformers by name, and which of them the core can run."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import partial
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
        SettingError: there is no such model (the message has the closest names), ``img_size`` is no side and no pair
            of sides, or a size of the network is below 1.
    """
    if not isinstance(model_name, str):
        raise SettingError(f"model_name is {model_name!r}: give one that timm.list_models() lists")
    _check_sides(kwargs.get("img_size"))
    _check_sizes(kwargs)
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


def create_published(
    img_size: Sequence[int] | int | None, qkv_bias: bool, init_values: float | None, **kwargs: Any
) -> VisionTransformer:
    """Build the ViT of the published DeiT and ViT-Adapter files: row 0 of its position table is the class token's.

    Args:
        img_size: determines the size of the position table; default 224.
        kwargs: arguments of timm's ``VisionTransformer``; None leaves timm's value.

    Raises:
        SettingError: ``img_size`` is no side and no pair of sides, or below a patch.
    """
    given = {name: value for name, value in kwargs.items() if value is not None}
    _check_sizes(given)
    _check_sides(img_size, given.get("patch_size", 16))
    model = VisionTransformer(
        img_size=img_size or 224,
        num_classes=0,
        qkv_bias=qkv_bias,
        init_values=init_values,
        dynamic_img_size=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        **given,
    )
    model.patch_embed.img_size = None  # of an image of other sides, a rest below a patch is left out
    return model


def _check_sizes(sizes: Mapping[str, Any]) -> None:
    """Raise SettingError if one of the sizes of a network is below 1."""
    for name in ("patch_size", "embed_dim", "depth", "num_heads"):
        if isinstance(sizes.get(name), int) and sizes[name] < 1:
            raise SettingError(f"{name} is {sizes[name]}: give a whole number above 0")


def _check_sides(img_size: Any, patch: int = 1) -> None:
    """Raise SettingError if an ``img_size`` is not None, no side and no pair of sides, or below a patch."""
    sides = [img_size] * 2 if isinstance(img_size, int) else img_size
    if sides is not None and not (
        isinstance(sides, Sequence) and len(sides) == 2 and all(isinstance(one, int) and one >= patch for one in sides)
    ):
        least = f", each at least a patch of {patch}" if patch > 1 else ""
        raise SettingError(f"img_size is {img_size!r}: give a side in pixels, or (height, width){least}")


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
