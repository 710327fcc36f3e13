"""Names of weights: published schemas to the house's and back. Pure functions on state dicts, no files.

House schema (timm's names): ``blocks.i.{norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}``, ``blocks.i.ls1.gamma``,
``reducer.selectors.j``. Every function works with or without a prefix such as ``backbone.`` before the names, keeps the
order of the tensors, shares them with its input, and leaves names it does not know alone.
"""

import re
from collections import OrderedDict

import torch
from timm.layers import resample_patch_embed

from .pos_embed import class_rows, noted_grid

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
# The ViT of mmsegmentation (and of DToP and Segmenter, which use it). `ln1` alone is its final norm.
# Pinned to the backbone: heads have layers of their own.
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
_PATCHES_OF_MMSEG = re.compile(r"^((?:backbone\.)?patch_embed\.projection\.)weight$")
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
# What only trained a ViT: classifiers, projections of self-supervision, tokens that stand for masked patches.
_TRAINING_PARTS = re.compile(r"(backbone\.)?(head|head_dist|fc_norm|pre_logits|mask_token|masked_embed)(\.|$)")
# SViT's Evo-ViT adapter takes a block apart; its qk and v are joined before.
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


def unwrap(checkpoint):
    """The state dict inside a checkpoint: under ``state_dict``, ``model``, ``teacher`` or ``student`` (iBOT, DINO), the
    first that is there, or the checkpoint itself.

    Returns an OrderedDict name -> tensor without DistributedDataParallel's ``module.`` prefix; entries that are not
    tensors are left out. Raises ValueError when no tensor is found.
    """
    wrapper = wrapper_of(checkpoint)
    source = checkpoint if wrapper is None else checkpoint[wrapper]
    tensors = {}
    if isinstance(source, dict):
        tensors = {str(k): v for k, v in source.items() if hasattr(v, "shape") and hasattr(v, "dtype")}
    if not tensors:
        raise ValueError(
            "holds no weights: expected tensors by name, at top level or under 'state_dict', 'model' or 'teacher'"
        )
    # Versions of modules, which PyTorch consults to upgrade weights of older layers, and grids of position tables.
    notes = getattr(source, "_metadata", None)
    if all(k.startswith("module.") for k in tensors):
        tensors = {k[len("module.") :]: v for k, v in tensors.items()}
        notes = notes and OrderedDict((k.removeprefix("module").removeprefix("."), v) for k, v in notes.items())
    state = OrderedDict(tensors)
    state._metadata = notes
    return state


def wrapper_of(checkpoint):
    """The name under which ``unwrap`` finds a checkpoint's weights; None where they lie open."""
    names = ("state_dict", "model", "teacher", "student") if isinstance(checkpoint, dict) else ()
    return next((name for name in names if isinstance(checkpoint.get(name), dict)), None)


def describe(state):
    """Which schema the names of ``state`` follow, in words for a report."""
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


def from_published(state):
    """Published dense ViT-Adapter, SViT, Evo-ViT adapter, Cropr or mmsegmentation ViT names to the house's; house names
    pass, so it is idempotent. Patches that mmsegmentation embedded without a bias (``patch_bias=False``) get one of
    zeros."""
    if any(_OF_MMSEG.search(k) for k in state):
        patches = next((match for match in map(_PATCHES_OF_MMSEG.match, state) if match), None)
        if patches and patches[1] + "bias" not in state:
            weight = state[patches[0]]
            state = OrderedDict(state, **{patches[1] + "bias": weight.new_zeros(len(weight))})
        state = _renamed(state, _FROM_MMSEG)
    if any(_EVO_QK.search(k) for k in state):
        state = _renamed(_evo_joined(state), _FROM_EVO)
    return _renamed(state, _FROM_PUBLISHED)


def _evo_joined(state):
    """One qkv (3C, ...) of each block where the Evo-ViT adapter has qk (2C, ...) and v (C, ...)."""
    out = OrderedDict(state)
    for old in [k for k in state if _EVO_QK.search(k)]:
        block, kind = _EVO_QK.search(old).groups()
        before = old[: _EVO_QK.search(old).start()]
        parts = [out.pop(old), out.pop(f"{before}vs.{block}.v.{kind}")]
        out[f"{before}blocks.{block}.attn.qkv.{kind}"] = torch.cat(parts)
    return out


def to_published_dense(state):
    """House names to the published dense ViT-Adapter's. Reducer tensors have no place there and are left out."""
    return _renamed({k: v for k, v in from_published(state).items() if not _REDUCER.search(k)}, _TO_DENSE)


def to_published_selective(state):
    """House names to the published SViT's. Raises ValueError on layer scale, which that model does not have."""
    state = from_published(state)
    scaled = next((k for k in state if _LAYER_SCALE.search(k)), None)
    if scaled:
        raise ValueError(f"the published SViT has no layer scale, so {scaled} cannot be written in its schema")
    return _renamed(state, _TO_SELECTIVE)


def to_published_cropr(state):
    """House names of a classifier or of a segmentor with a linear head to the published Cropr's. Raises ValueError when
    the routers were folded, which those files know nothing of."""
    if any(k.endswith(".folded") for k in state):
        raise ValueError("folded routers cannot be written in the published schema: take the weights from before")
    if "decode_head.conv_seg.weight" in state:
        state = _renamed(state, _TO_CROPR_SEGMENTOR)
        state["head.weight"] = state["head.weight"].flatten(1)  # of a convolution of one pixel
    return _renamed(state, _TO_CROPR)


def fit_linear_segmentor(state, names):
    """A network whose one norm is ``fc_norm``, with or without a linear ``head``, as our segmentors name it: ``norm``
    of the backbone and ``decode_head.conv_seg``. Others pass. ``names``: the model's."""
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


def to_mmseg(state):
    """Names of any plain ViT, or of a segmentor with one as its ``backbone``, to those of mmsegmentation's ViT; a
    segmentor's heads keep theirs. What only trained the ViT has no place there and is left out, as is a reducer.

    Raises ValueError for what mmsegmentation's ViT does not have: layer scale, a distillation token, an adapter, a
    position table without the class token's row.
    """
    state = from_published(state)
    prefix = "backbone." if any(k.startswith("backbone.") for k in state) else ""
    out = OrderedDict()
    out._metadata = getattr(state, "_metadata", None)
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
    return out


def is_training_part(name):
    """Whether a weight of that name only trained a ViT: a classifier, a projection of self-supervision, a token that
    stands for masked patches."""
    return _TRAINING_PARTS.match(name) is not None


def align_prefix(state, names, prefix="backbone."):
    """Add or remove ``prefix`` so that a backbone's file fits a detector and a detector's file fits a backbone.

    ``names``: the model's names. Removing drops what lies outside the prefix (heads). Returns (state, added) where
    ``added`` tells that the file held a backbone only.
    """
    wanted = any(n.startswith(prefix) for n in names)
    given = any(k.startswith(prefix) for k in state)
    if wanted and not given and not set(state) & set(names):
        return OrderedDict((prefix + k, v) for k, v in state.items()), True
    if given and not wanted and not set(state) & set(names):
        return OrderedDict((k[len(prefix) :], v) for k, v in state.items() if k.startswith(prefix)), False
    return state, False


def fit_patches(name, weight, like):
    """The kernel ``weight`` (C, 3, p, p) of a file for patches of the model's kernel ``like``, resampled so that
    patches of another size give the same tokens (FlexiViT); None for any other tensor."""
    if not name.endswith("patch_embed.proj.weight") or weight.ndim != 4 or weight.shape[:2] != like.shape[:2]:
        return None
    return resample_patch_embed(weight.float(), list(like.shape[-2:])).to(weight.dtype)


def _renamed(state, rules):
    out = OrderedDict()
    for old, value in state.items():
        new = old
        for pattern, replacement in rules:
            new = pattern.sub(replacement, new)
        out[new] = value
    if hasattr(state, "_metadata"):
        out._metadata = state._metadata
    return out
