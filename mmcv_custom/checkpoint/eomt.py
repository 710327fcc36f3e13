"""Names of released EoMT files and of transformers' ``Eomt`` and ``EomtDinov3``, as the models here have them.

Pure functions on state dicts. The encoder's weights become ``backbone.*`` in timm's names, the others go to the
``network`` of the model's head. Shapes: C channels, N positions of a table.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]

RELEASED, DELTAS, TRANSFORMERS = "released EoMT", "released EoMT with DINOv3", "transformers' EoMT"
_NETWORK = re.compile(r"^network\.")
_ENCODER = "encoder.backbone."
_DROPPED = re.compile(r"^(encoder\.pixel_(mean|std)$|criterion\.|embeddings\.mask_token$)")
# After the prefix of the encoder is gone: what transformers calls a ViT's parts, and what timm does.
_TO_TIMM = [
    (r"^(?:embeddings|patch_embed)\.cls_token$", "cls_token"),
    (r"^(?:embeddings|patch_embed)\.register_tokens$", "reg_token"),
    (r"^embeddings\.position_embeddings\.weight$", "pos_embed"),
    (r"^(?:embeddings|patch_embed)\.patch_embeddings\.(?:projection\.)?(weight|bias)$", r"patch_embed.proj.\1"),
    (r"^(?:model\.)?(?:layers?|blocks)\.(\d+)\.", r"blocks.\1."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.attention\.(?:out_proj|o_proj)\.", ".attn.proj."),
    (r"^layernorm\.", "norm."),
]
_HEAD = [
    (r"^class_predictor\.", "class_head."),
    (r"^mask_head\.fc1\.", "mask_head.0."),
    (r"^mask_head\.fc2\.", "mask_head.2."),
    (r"^mask_head\.fc3\.", "mask_head.4."),
    (r"^upscale_block\.block\.(\d+)\.layernorm2d\.", r"upscale.\1.norm."),
    (r"^upscale_block\.block\.(\d+)\.", r"upscale.\1."),
]
_OF_HEAD = re.compile(r"^(class_head|mask_head|upscale)\.")
_QKV = re.compile(r"^(blocks\.\d+\.)attention\.([qkv])_proj\.(weight|bias)$")
_MLP = re.compile(r"^(blocks\.\d+\.mlp\.)(gate|up|down)_proj\.(weight|bias)$")


def describe(state: State) -> str | None:
    """Name the schema of a file of EoMT; None for another file."""
    names = {_NETWORK.sub("", name) for name in state}
    if {"query.weight", "class_predictor.weight"} <= names:
        return TRANSFORMERS
    if {"q.weight", "class_head.weight"} <= names:
        dinov3 = any(name.startswith(_ENCODER) and ".attention.q_proj." in name for name in names)
        return DELTAS if dinov3 else RELEASED
    return None


def from_published(state: State, own: Collection[str] = ()) -> State:
    """Convert the names of a file of EoMT to those of a model here, with the names ``own``.

    Other files are returned as they are. ``own`` says where the head is: ``decode_head`` or ``panoptic_head``.

    Raises:
        ValueError: the encoder's weights are differences to those of DINOv3.
    """
    schema = describe(state)
    if schema is None:
        return state
    if schema == DELTAS:
        raise ValueError(
            "holds differences to the weights of DINOv3, not weights: add them with "
            "`python tools/model_converters/eomt_dinov3.py DINOV3 FILE OUT`"
        )
    return native(state, own)


def native(state: State, own: Collection[str] = ()) -> OrderedDict[str, Tensor]:
    """Convert any file of EoMT, one of differences included; see ``from_published``."""
    head = next(
        (name.removesuffix("class_head.weight") for name in own if name.endswith("network.class_head.weight")), ""
    )
    head = head or "decode_head.network."
    encoder: OrderedDict[str, Tensor] = OrderedDict()
    out: OrderedDict[str, Tensor] = OrderedDict()
    for old, value in state.items():
        name = _NETWORK.sub("", old)
        if _DROPPED.match(name):
            continue
        renamed = _renamed(name, _HEAD)
        if name in ("q.weight", "query.weight"):
            out["backbone.query.weight"] = value
        elif name == "attn_mask_probs":
            out["backbone.attn_mask_probs"] = value
        elif _OF_HEAD.match(renamed):
            out[head + renamed] = value
        else:
            encoder[name.removeprefix(_ENCODER)] = value
    for name, value in vit(encoder, {name.removeprefix("backbone.") for name in own}).items():
        out["backbone." + name] = value
    return out


def vit(state: State, own: Collection[str] = ()) -> OrderedDict[str, Tensor]:
    """Convert the names of a transformers' ViT (DINOv2, DINOv3, their EoMT) to timm's; timm's stay as they are.

    Queries, keys and values are joined; keys without a bias leave separate biases of queries and values.
    """
    out: OrderedDict[str, Tensor] = OrderedDict()
    parts: dict[tuple[str, str], dict[str, Tensor]] = {}
    for old, value in state.items():
        name = _renamed(old, _TO_TIMM)
        if _DROPPED.match(old) or old == "patch_embed.mask_token":
            continue
        if found := _QKV.match(name):
            parts.setdefault((found[1] + "attn.", found[3]), {})[found[2]] = value
        elif found := _MLP.match(name):
            parts.setdefault((found[1], found[3]), {})[found[2]] = value
        else:
            out[name] = value[None] if name == "pos_embed" and value.ndim == 2 else value
    for (prefix, kind), group in parts.items():
        if prefix.endswith("attn.") and len(group) == 3:
            out[f"{prefix}qkv.{kind}"] = torch.cat([group[part] for part in "qkv"])
        elif prefix.endswith("attn."):
            out.update((f"{prefix}{part}_{kind}", value) for part, value in group.items())
        else:
            out.update(_mlp(prefix, kind, group, own))
    return out


def with_ls(state: State) -> OrderedDict[str, Tensor]:
    """Call layer scale ``ls1.gamma`` as in timm's ``VisionTransformer``, where its ``Eva`` calls it ``gamma_1``."""
    return OrderedDict((re.sub(r"\.gamma_([12])$", r".ls\1.gamma", name), value) for name, value in state.items())


def _mlp(prefix: str, kind: str, group: dict[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
    """Return the first and last layers of an MLP from its ``up``, ``down`` and, in a SwiGLU, ``gate``."""
    last = {f"{prefix}fc2.{kind}": group["down"]}
    if "gate" not in group:
        return {f"{prefix}fc1.{kind}": group["up"], **last}
    if f"{prefix}fc1_g.{kind}" in own:
        return {f"{prefix}fc1_g.{kind}": group["gate"], f"{prefix}fc1_x.{kind}": group["up"], **last}
    return {f"{prefix}fc1.{kind}": torch.cat([group["gate"], group["up"]]), **last}


def _renamed(name: str, rules: list[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
