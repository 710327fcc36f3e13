"""Files of other projects' ViTs (DINOv2, DINOv3, CLIP, SigLIP, BEiT, EVA, SAM) in a model with timm's names.

Pure functions on state dicts. Names here have no ``backbone.``. Shapes: C channels, n rows of a position table.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from token_pruning import PlainViT

from .pos_embed import class_rows, grid_of, noted_grid

State = Mapping[str, Tensor]

_TOWERS = ("image_encoder.", "visual.trunk.", "visual.", "vision_encoder.")  # image networks beside others
_PATCHES = ("patch_embed.proj.weight", "conv1.weight")
_BLOCK = r"^blocks\.(\d+)\."
_RENAMED = [
    (r"^(?:register|storage)_tokens$", "reg_token"),
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # blocks in chunks, numbered through
    (r"^conv1\.", "patch_embed.proj."),
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (_BLOCK + r"ln_([12])\.", r"blocks.\1.norm\2."),
    (_BLOCK + r"ls_([12])\.", r"blocks.\1.ls\2."),
    (_BLOCK + r"attn\.in_proj_", r"blocks.\1.attn.qkv."),
    (_BLOCK + r"attn\.out_proj\.", r"blocks.\1.attn.proj."),
    (_BLOCK + r"attn\.inner_attn_ln\.", r"blocks.\1.attn.norm."),
    (_BLOCK + r"mlp\.(?:c_fc|lin1|w12)\.", r"blocks.\1.mlp.fc1."),
    (_BLOCK + r"mlp\.(?:c_proj|lin2|w3)\.", r"blocks.\1.mlp.fc2."),
    (_BLOCK + r"mlp\.w1\.", r"blocks.\1.mlp.fc1_g."),
    (_BLOCK + r"mlp\.w2\.", r"blocks.\1.mlp.fc1_x."),
    (_BLOCK + r"mlp\.ffn_ln\.", r"blocks.\1.mlp.norm."),
]
_SCALE = re.compile(_BLOCK + r"(?:ls|gamma_?)([12])(?:\.gamma)?$")
_ROPE = re.compile(r"(^|\.)rope(_embed)?\.")
_DERIVED = re.compile(r"relative_position_index$|\.bias_mask$")  # tables that follow from sizes


def image_tower(state: State) -> State:
    """Return the weights of the image network alone, if ``state`` holds one beside others (of texts, masks, prompts).

    The projection to the space that images and texts share becomes ``head``.
    """
    tower = next((t for t in _TOWERS if any(t + patches in state for patches in _PATCHES)), None)
    if tower is None:
        return state
    out = OrderedDict((name[len(tower) :], value) for name, value in state.items() if name.startswith(tower))
    head = out.pop("proj", torch.empty(0)).T if "proj" in out else state.get("visual.head.proj.weight")
    if head is not None:
        out["head.weight"], out["head.bias"] = head, head.new_zeros(len(head))
    return out


def fit_names(state: State, own: State) -> OrderedDict[str, Tensor]:
    """Give the weights of a ViT the names and forms that the model, with the weights ``own``, has.

    What a file lacks because it changes nothing is filled in: layer scale of ones, biases of zeros.
    """
    pretraining = "mask_token" in state and "norm.weight" not in own and "fc_norm.weight" in own
    out: OrderedDict[str, Tensor] = OrderedDict()
    for old, value in state.items():
        name = old
        for pattern, replacement in _RENAMED if old not in own else ():
            name = re.sub(pattern, replacement, name)
        scale = _SCALE.match(name)
        if scale:
            block, branch = scale.groups()
            forms = (f"blocks.{block}.{form}" for form in (f"gamma_{branch}", f"ls{branch}.gamma", f"gamma{branch}"))
            name = next((form for form in forms if form in own), f"blocks.{block}.ls{branch}.gamma")
        if pretraining and name.startswith("norm."):
            name = "fc_" + name
        # CLIP's have no axis of images.
        if name in ("cls_token", "pos_embed") and value.ndim in (1, 2) and value.numel():
            value = value.reshape(1, -1, value.shape[-1])
        if name == "pos_embed" and value.ndim == 4 and name in own and own[name].ndim == 3:  # SAM's is a map
            value = value.flatten(1, 2)
        out[name] = value
    out = _fit_biases(out, own)
    for name, like in own.items():
        scale = _SCALE.match(name)
        if scale and name not in out and f"blocks.{scale.group(1)}.norm1.weight" in out:
            out[name] = torch.ones_like(like)
    if "patch_embed.proj.weight" in out and "patch_embed.proj.bias" in own:
        out.setdefault("patch_embed.proj.bias", torch.zeros_like(own["patch_embed.proj.bias"]))
    return OrderedDict((name, value) for name, value in out.items() if name in own or not _DERIVED.search(name))


def _fit_biases(state: OrderedDict[str, Tensor], own: State) -> OrderedDict[str, Tensor]:
    """Join, split or rename the biases of queries and values; those of keys are zeros where a file has none."""
    out = OrderedDict(state)
    for name in state:
        attn, _, kind = name.rpartition("attn.")
        if not re.fullmatch(_BLOCK, attn) or name in own:
            continue
        q, v, joint = (f"{attn}attn.{part}" for part in ("q_bias", "v_bias", "qkv.bias"))
        if kind == "q_bias" and v in out:
            query, value = out.pop(q), out.pop(v)
            if f"{attn}attn.q_proj.bias" in own:
                out[f"{attn}attn.q_proj.bias"], out[f"{attn}attn.v_proj.bias"] = query, value
            else:
                out[joint] = torch.cat([query, torch.zeros_like(query), value])
        elif kind == "qkv.bias" and q in own:  # the bias of keys cancels in the softmax
            out[q], _, out[v] = out.pop(joint).chunk(3)
        elif kind == "qkv.bias" and joint + "_mask" in out:
            query, key, value = out[joint].chunk(3)
            out[joint] = torch.cat([query, torch.zeros_like(key), value])
    return out


def fit_class_row(state: State, own: State, model: nn.Module, notes: State) -> State:
    """Move the class token's row of a position table into the token, or give a table without one a row of zeros.

    So the token that enters the blocks is the file's, however file and model divide it.

    Args:
        state: the file's weights.
        own: the model's.
        model: the trunk.
        notes: the file's weights with their metadata.
    """
    if not {"pos_embed", "cls_token"} <= state.keys() & own.keys():
        return state
    table, like, grid = state["pos_embed"], own["pos_embed"], grid_of(model, "pos_embed")
    if table.ndim != 3 or like.ndim != 3 or table.shape[1:] == like.shape[1:]:
        return state
    given, wanted = class_rows(table.shape[1], noted_grid(notes)), class_rows(like.shape[1], grid)
    out = OrderedDict(state)
    if given == 1 and wanted == 0:
        out["cls_token"], out["pos_embed"] = state["cls_token"] + table[:, :1], table[:, 1:]
    elif given is not None and wanted is not None and given < wanted and "dist_token" not in own:
        rows = table.new_zeros(1, wanted - given, table.shape[2])
        out["pos_embed"] = torch.cat([table[:, :given], rows, table[:, given:]], 1)
    return out


def _ones(value: Tensor) -> bool:
    return bool((value == 1).all())


def _zeros(value: Tensor) -> bool:
    return not value.any()


# What a leftover weight is; the cure in PlainViT and in timm's models; the values at which it changes nothing.
_NOWHERE = "no backbone here has them, take weights without"
_TIMM = "take weights without, or set the backbone's model_name to a timm model that has"
_KINDS: list[tuple[str, str, str, str, Callable[[Tensor], bool] | None]] = [
    (
        _SCALE.pattern,
        "layer scale",
        "set layer_scale=True in the backbone",
        "set init_values=1.0 in the backbone",
        _ones,
    ),
    (r"^reg_token$", "registers", f"{_TIMM} them", "set reg_tokens={} in the backbone", None),
    (r"rel_pos|relative_position", "relative positions", _NOWHERE, _NOWHERE, _zeros),
    (r"^norm_pre\.", "a norm before the blocks", f"{_TIMM} it", "set pre_norm=True in the backbone", None),
    (_ROPE.pattern, "rotary positions", f"{_TIMM} them", "take a model_name that has them", None),
    (
        _BLOCK + r"attn\.(qkv\.|[qv]_|[qv]_proj\.)bias$",
        "qkv biases",
        *["set qkv_bias=True in the backbone"] * 2,
        _zeros,
    ),
    (r"^pos_embed$", "a position table", f"{_TIMM} one", "take a model_name that has one", _zeros),
]


def leftover_of(state: State, own: Collection[str], model: nn.Module) -> str | None:
    """Say what in ``state`` has no place in the model though the network's outputs depend on it; None if nothing.

    Args:
        state: the file's weights in the model's names.
        own: the model's names.
        model: the trunk.
    """
    depth = sum(re.fullmatch(_BLOCK + r"norm1\.weight", name) is not None for name in own)
    rotary = getattr(model, "rope", None) is not None
    for name, value in state.items():
        if name in own or not value.is_floating_point() and not _ROPE.search(name):
            continue
        block = re.match(_BLOCK, name)
        if not depth or block and int(block.group(1)) >= depth or rotary and _ROPE.search(name):
            continue
        for pattern, what, plain, timm, harmless in _KINDS:
            if re.search(pattern, name):
                if harmless and harmless(value):
                    break
                cure = (plain if isinstance(model, PlainViT) else timm).format(value.shape[-2] if value.ndim > 1 else 0)
                return f"has {what} ({name}), which the backbone of the config lacks: {cure}"
        else:
            if block and not (name.endswith("bias") and _zeros(value)):
                return f"has {name}, which the backbone's blocks lack: build the model that the weights belong to"
    return None
