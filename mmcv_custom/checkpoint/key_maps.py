"""Names of weights: published schemas to the native one and back. Pure functions on state dicts, no files.

Native schema (timm's names): ``blocks.i.{norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}``, ``blocks.i.ls1.gamma``,
``reducer.selectors.j``. Every function works with or without a prefix such as ``backbone.`` before the names, keeps the
order of the tensors, shares them with its input, and leaves unknown names alone.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import torch
from timm.layers import resample_patch_embed
from torch import Tensor

from .pos_embed import class_rows, noted_grid

State = Mapping[str, Tensor]
Rules = Sequence[tuple[re.Pattern[str], str]]

# The lookbehind pins a rule to a whole path component, so `my_blocks.0` is not `blocks.0`.
_BLOCK = r"(?<![^.])blocks\.(\d+)\."
_FROM_PUBLISHED = [
    (re.compile(_BLOCK + r"gamma([12])$"), r"blocks.\1.ls\2.gamma"),
    (re.compile(_BLOCK + r"TransformerEncoderLayer\.self_attn\.in_proj_(weight|bias)$"), r"blocks.\1.attn.qkv.\2"),
    (re.compile(_BLOCK + r"TransformerEncoderLayer\.self_attn\.out_proj\."), r"blocks.\1.attn.proj."),
    (re.compile(_BLOCK + r"TransformerEncoderLayer\.linear([12])\."), r"blocks.\1.mlp.fc\2."),
    (re.compile(_BLOCK + r"TransformerEncoderLayer\.(norm[12])\."), r"blocks.\1.\2."),
    (re.compile(r"(?<![^.])selective_modules\.(\d+)\."), r"reducer.selectors.\1."),
    (re.compile(r"(?<![^.])cropr\.(\d+)\."), r"reducer.routers.\1."),
]
# The ViT of mmsegmentation (and of DToP and Segmenter, which use it). A top-level `ln1` is its final norm.
# Pinned to the backbone, because heads have `layers` too.
_MMSEG = r"^(backbone\.)?layers\.(\d+)\."
_FROM_MMSEG = [
    (re.compile(_MMSEG + r"ln([12])\."), r"\1blocks.\2.norm\3."),
    (re.compile(_MMSEG + r"attn\.attn\.in_proj_(weight|bias)$"), r"\1blocks.\2.attn.qkv.\3"),
    (re.compile(_MMSEG + r"attn\.attn\.out_proj\."), r"\1blocks.\2.attn.proj."),
    (re.compile(_MMSEG + r"ffn\.layers\.0\.0\."), r"\1blocks.\2.mlp.fc1."),
    (re.compile(_MMSEG + r"ffn\.layers\.1\."), r"\1blocks.\2.mlp.fc2."),
    (re.compile(r"^(backbone\.)?patch_embed\.projection\."), r"\1patch_embed.proj."),
    (re.compile(r"^(backbone\.)?ln1\."), r"\1norm."),
]
_OF_MMSEG = re.compile(_MMSEG + r"attn\.attn\.in_proj_weight$")
# Layers of mmsegmentation's ViT that may lack a bias (patch_bias=False, qkv_bias=False) and have one here.
_BIASED_HERE = re.compile(r"^((?:backbone\.)?(?:patch_embed\.proj|blocks\.\d+\.attn\.proj)\.)weight$")
_QKV = re.compile(r"((?<![^.])blocks\.\d+\.attn\.qkv\.)weight$")
_TO_MMSEG = [
    (re.compile(r"^blocks\.(\d+)\.norm([12])\."), r"layers.\1.ln\2."),
    (re.compile(r"^blocks\.(\d+)\.attn\.qkv\.(weight|bias)$"), r"layers.\1.attn.attn.in_proj_\2"),
    (re.compile(r"^blocks\.(\d+)\.attn\.proj\."), r"layers.\1.attn.attn.out_proj."),
    (re.compile(r"^blocks\.(\d+)\.mlp\.fc1\."), r"layers.\1.ffn.layers.0.0."),
    (re.compile(r"^blocks\.(\d+)\.mlp\.fc2\."), r"layers.\1.ffn.layers.1."),
    (re.compile(r"^patch_embed\.proj\."), "patch_embed.projection."),
    (re.compile(r"^norm\."), "ln1."),
]
_IN_MMSEG = re.compile(r"(cls_token|pos_embed)$|(layers\.\d+|patch_embed\.projection|ln1)\.")
# Parts used only in pretraining: classifiers, projections of self-supervision, tokens that stand for masked patches.
_TRAINING_PARTS = re.compile(
    r"(backbone\.)?(head|head_dist|fc_norm|pre_logits|mask_token|masked_embed|"
    r"lm_head|attn_pool|projectors|local_cls_norm)(\.|$)"
)
# SViT's Evo-ViT adapter stores the layers of a block separately; its qk and v are joined first.
_FROM_EVO = [
    (re.compile(r"(?<![^.])norms\.(\d+)\."), r"blocks.\1.norm1."),
    (re.compile(r"(?<![^.])projs\.(\d+)\."), r"blocks.\1.attn.proj."),
]
_EVO_QK = re.compile(r"(?<![^.])qks\.(\d+)\.qk\.(weight|bias)$")
_TO_DENSE = [(re.compile(_BLOCK + r"ls([12])\.gamma$"), r"blocks.\1.gamma\2")]
_TO_SELECTIVE = [
    (re.compile(_BLOCK + r"attn\.qkv\.(weight|bias)$"), r"blocks.\1.TransformerEncoderLayer.self_attn.in_proj_\2"),
    (re.compile(_BLOCK + r"attn\.proj\."), r"blocks.\1.TransformerEncoderLayer.self_attn.out_proj."),
    (re.compile(_BLOCK + r"mlp\.fc([12])\."), r"blocks.\1.TransformerEncoderLayer.linear\2."),
    (re.compile(_BLOCK + r"(norm[12])\."), r"blocks.\1.TransformerEncoderLayer.\2."),
    (re.compile(r"(?<![^.])reducer\.selectors\.(\d+)\."), r"selective_modules.\1."),
]
_TO_CROPR = [
    (re.compile(r"^backbone\."), ""),
    (re.compile(r"^reducer\.routers\.(\d+)\."), r"cropr.\1."),
]
_TO_CROPR_SEGMENTOR = [
    (re.compile(r"^backbone\.norm\."), "fc_norm."),
    (re.compile(r"^decode_head\.conv_seg\."), "head."),
]
_REDUCER = re.compile(r"(?<![^.])reducer\.")
_LAYER_SCALE = re.compile(_BLOCK + r"ls[12]\.gamma$")


def describe(state: State) -> str:
    """Name the schema that the names of ``state`` follow, for a report."""
    if any(_EVO_QK.search(k) for k in state):
        return "published Evo-ViT adapter"
    if any(".TransformerEncoderLayer." in k or "selective_modules." in k for k in state):
        return "published SViT"
    if any(re.search(r"(?<![^.])cropr\.\d+\.", k) for k in state):
        return "published Cropr"
    if any(_OF_MMSEG.search(k) for k in state):
        return "mmsegmentation ViT"
    if any(re.search(_BLOCK + r"gamma[12]$", k) for k in state):
        return "published ViT-Adapter with layer scale"
    if any(_REDUCER.search(k) for k in state):
        return "pruned"
    if any(k.split(".")[0] in ("blocks", "cls_token") for k in state) and "level_embed" not in state:
        return "plain ViT"
    return "dense"


def from_published(state: State) -> OrderedDict[str, Tensor]:
    """Convert published names to native names.

    Schemas: dense ViT-Adapter, SViT, Evo-ViT adapter, Cropr, mmsegmentation's ViT. Native names stay as they are, so
    the function is idempotent. Layers that mmsegmentation's ViT has without a bias (``patch_bias=False``; attention
    projections with ``qkv_bias=False``) get a bias of zeros.
    """
    if any(_OF_MMSEG.search(k) for k in state):
        state = _with_zero_biases(_renamed(state, _FROM_MMSEG), _BIASED_HERE)
    if any(_EVO_QK.search(k) for k in state):
        state = _renamed(_evo_joined(state), _FROM_EVO)
    return _renamed(state, _FROM_PUBLISHED)


def fit_qkv_bias(state: State, names: Iterable[str]) -> State:
    """Add the qkv biases of zeros that a file without them (``qkv_bias=False``) lacks for the model's ``names``."""
    names = set(names)
    return _with_zero_biases(state, _QKV, lambda name: name in names)


def _with_zero_biases(
    state: State, weights: re.Pattern[str], wanted: Callable[[str], bool] = lambda name: True
) -> OrderedDict[str, Tensor]:
    """Add a bias of zeros after each weight that matches, where there is none and its name is ``wanted``."""
    out = OrderedDict()
    for name, value in state.items():
        out[name] = value
        match = weights.search(name)
        bias = match and name.removesuffix("weight") + "bias"
        if bias and bias not in state and wanted(bias):
            out[bias] = value.new_zeros(value.shape[:1])
    return _with_notes(out, state)


def _evo_joined(state: State) -> OrderedDict[str, Tensor]:
    """Join the Evo-ViT adapter's qk (2C, ...) and v (C, ...) to one qkv (3C, ...) per block."""
    out = OrderedDict(state)
    for old, match in [(k, _EVO_QK.search(k)) for k in state]:
        if match is None:
            continue
        (block, kind), before = match.groups(), old[: match.start()]
        parts = [out.pop(old), out.pop(f"{before}vs.{block}.v.{kind}")]
        out[f"{before}blocks.{block}.attn.qkv.{kind}"] = torch.cat(parts)
    return out


def to_published_dense(state: State) -> OrderedDict[str, Tensor]:
    """Convert native names to the published dense ViT-Adapter's, leaving out the reducer's weights."""
    return _renamed(_without(from_published(state), _REDUCER), _TO_DENSE)


def to_published_selective(state: State) -> OrderedDict[str, Tensor]:
    """Convert native names to the published SViT's.

    Raises:
        ValueError: layer scale, or weights of another reducer, which that model does not have.
    """
    state = from_published(state)
    scaled = next((k for k in state if _LAYER_SCALE.search(k)), None)
    if scaled:
        raise ValueError(f"has {scaled}, and the published SViT has no layer scale")
    return _without_foreign_reducers(_renamed(state, _TO_SELECTIVE), "SViT")


def to_published_cropr(state: State) -> OrderedDict[str, Tensor]:
    """Convert native names of a classifier, or of a segmentor with a linear head, to the published Cropr's.

    Raises:
        ValueError: folded routers, or weights of another reducer, which that model does not have.
    """
    state = from_published(state)
    if any(k.endswith(".folded") for k in state):
        raise ValueError("has folded routers, and the published Cropr has none: take the weights from before folding")
    if "decode_head.conv_seg.weight" in state:
        state = _renamed(state, _TO_CROPR_SEGMENTOR)
        state["head.weight"] = state["head.weight"].flatten(1)  # a 1 x 1 convolution
    return _without_foreign_reducers(_renamed(state, _TO_CROPR), "Cropr")


def _without_foreign_reducers(state: OrderedDict[str, Tensor], method: str) -> OrderedDict[str, Tensor]:
    foreign = next((k for k in state if _REDUCER.search(k)), None)
    if foreign:
        raise ValueError(f"has {foreign}, a weight of another reducer than the published {method}'s")
    return state


def fit_linear_segmentor(state: State, names: Collection[str]) -> State:
    """Rename ``fc_norm`` and a linear ``head`` to what the model, with ``names``, calls them.

    That is ``norm`` and ``decode_head.conv_seg`` of a segmentor, or ``norm`` of a backbone. Networks that also have a
    ``norm``, and models that have ``fc_norm``, are left as they are.
    """
    if "fc_norm.weight" not in state or "norm.weight" in state or "fc_norm.weight" in names:
        return state
    if "norm.weight" in names:  # the backbone alone
        return OrderedDict((re.sub(r"^fc_norm\.", "norm.", k), v) for k, v in state.items())
    if "backbone.norm.weight" not in names or "decode_head.conv_seg.weight" not in names:
        return state
    out = OrderedDict()
    for name, value in state.items():
        if name in ("head.weight", "head.bias"):
            out["decode_head.conv_seg." + name[5:]] = value[:, :, None, None] if value.ndim == 2 else value
        else:
            out["backbone." + re.sub(r"^fc_norm\.", "norm.", name)] = value
    return out


def to_mmseg(state: State) -> OrderedDict[str, Tensor]:
    """Convert the names of any plain ViT, or of a segmentor with one as ``backbone``, to those of mmsegmentation's ViT.

    A segmentor's heads keep their names. Parts used only in pretraining and the reducer are left out. A ViT without
    qkv biases gets biases of zeros, because mmsegmentation's ViT has biases in all of its attention or in none of it.

    Raises:
        ValueError: something that mmsegmentation's ViT does not have: layer scale, a distillation token, an adapter, a
            position table without the class token's row.
    """
    state = _with_zero_biases(from_published(state), _QKV)
    prefix = "backbone." if any(k.startswith("backbone.") for k in state) else ""
    out: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in state.items():
        if is_training_part(name) or _REDUCER.search(name):
            continue
        if not name.startswith(prefix):
            out[name] = value
            continue
        (own,) = _renamed({name[len(prefix) :]: value}, _TO_MMSEG)
        if not _IN_MMSEG.match(own):
            raise ValueError(f"has {name}, and mmsegmentation's ViT has nothing of that kind")
        if own == "pos_embed" and class_rows(value.shape[1], noted_grid(state)) == 0:
            raise ValueError(
                f"has a position table of {value.shape[1]} rows, none of which is a class token's, and "
                "mmsegmentation's ViT has one more"
            )
        out[prefix + own] = value
    return _with_notes(out, state)


def is_training_part(name: str) -> bool:
    """Return whether a weight of that name is used only in pretraining.

    Such parts are classifiers, projections of self-supervision, and tokens that stand for masked patches.
    """
    return _TRAINING_PARTS.match(name) is not None


def align_prefix(state: State, names: Iterable[str], prefix: str = "backbone.") -> tuple[State, bool]:
    """Add or remove ``prefix`` so that a backbone's file fits a detector and a detector's file fits a backbone.

    Removing the prefix drops the weights without it (heads).

    Args:
        state: the file's weights.
        names: the model's names.
        prefix: the prefix.

    Returns:
        The weights, and whether the prefix was added, so the file held a backbone only.
    """
    names = set(names)
    wanted = any(n.startswith(prefix) for n in names)
    given = any(k.startswith(prefix) for k in state)
    if wanted and not given and not set(state) & names:
        return OrderedDict((prefix + k, v) for k, v in state.items()), True
    if given and not wanted and not set(state) & names:
        return OrderedDict((k[len(prefix) :], v) for k, v in state.items() if k.startswith(prefix)), False
    return state, False


def fit_patches(name: str, weight: Tensor, like: Tensor) -> Tensor | None:
    """Resample a file's patch embedding ``weight`` (C, 3, p, p) to the kernel size of the model's, ``like``.

    Patches of the new size then give the same tokens (FlexiViT). None for any other tensor.
    """
    if not name.endswith("patch_embed.proj.weight") or weight.ndim != 4 or weight.shape[:2] != like.shape[:2]:
        return None
    return resample_patch_embed(weight.float(), list(like.shape[-2:])).to(weight.dtype)


def _renamed(state: State, rules: Rules) -> OrderedDict[str, Tensor]:
    out = OrderedDict()
    for old, value in state.items():
        new = old
        for pattern, replacement in rules:
            new = pattern.sub(replacement, new)
        out[new] = value
    return _with_notes(out, state)


def _without(state: State, pattern: re.Pattern[str]) -> OrderedDict[str, Tensor]:
    return _with_notes(OrderedDict((k, v) for k, v in state.items() if not pattern.search(k)), state)


def _with_notes(out: OrderedDict[str, Tensor], state: State) -> OrderedDict[str, Tensor]:
    """Give ``out`` the metadata of ``state``: module versions, grids of position tables (see ``wrappers.unwrap``)."""
    out._metadata = getattr(state, "_metadata", None)  # type: ignore[attr-defined]
    return out
