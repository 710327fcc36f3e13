"""Names of weights: published schemas to the house's and back. Pure functions on state dicts, no files.

House schema (timm's names): ``blocks.i.{norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}``, ``blocks.i.ls1.gamma``,
``reducer.selectors.j``. Every function works with or without a prefix such as ``backbone.`` before the names, keeps the
order of the tensors, shares them with its input, and leaves names it does not know alone.
"""

import math
import re
from collections import OrderedDict

import torch
from timm.layers import resample_patch_embed

from token_pruning.vit import resize_positions

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
_MMSEG = r"(?<![^.])layers\.(\d+)\."
_FROM_MMSEG = [
    (re.compile(_MMSEG + r"ln([12])\."), r"blocks.\1.norm\2."),
    (re.compile(_MMSEG + r"attn\.attn\.in_proj_(weight|bias)$"), r"blocks.\1.attn.qkv.\2"),
    (re.compile(_MMSEG + r"attn\.attn\.out_proj\."), r"blocks.\1.attn.proj."),
    (re.compile(_MMSEG + r"ffn\.layers\.0\.0\."), r"blocks.\1.mlp.fc1."),
    (re.compile(_MMSEG + r"ffn\.layers\.1\."), r"blocks.\1.mlp.fc2."),
    (re.compile(r"^(backbone\.)?patch_embed\.projection\."), r"\1patch_embed.proj."),
    (re.compile(r"^(backbone\.)?ln1\."), r"\1norm."),
]
_OF_MMSEG = re.compile(_MMSEG + r"attn\.attn\.in_proj_weight$")
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
    """The state dict inside a checkpoint: under ``state_dict``, under ``model``, or the checkpoint itself.

    Returns an OrderedDict name -> tensor without DistributedDataParallel's ``module.`` prefix; entries that are not
    tensors are left out. Raises ValueError when no tensor is found.
    """
    source = checkpoint
    for wrapper in ("state_dict", "model"):
        if isinstance(source, dict) and isinstance(source.get(wrapper), dict):
            source = source[wrapper]
            break
    tensors = {}
    if isinstance(source, dict):
        tensors = {str(k): v for k, v in source.items() if hasattr(v, "shape") and hasattr(v, "dtype")}
    if not tensors:
        raise ValueError("holds no weights: expected tensors by name, at top level or under 'state_dict' or 'model'")
    if all(k.startswith("module.") for k in tensors):
        return OrderedDict((k[len("module."):], v) for k, v in tensors.items())
    state = OrderedDict(tensors)
    # Versions of modules, which PyTorch consults to upgrade weights of older layers, are kept where names stay.
    state._metadata = getattr(source, "_metadata", None)
    return state


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
    pass, so it is idempotent."""
    if any(_OF_MMSEG.search(k) for k in state):
        state = _renamed(state, _FROM_MMSEG)
    if any(_EVO_QK.search(k) for k in state):
        state = _renamed(_evo_joined(state), _FROM_EVO)
    return _renamed(state, _FROM_PUBLISHED)


def _evo_joined(state):
    """One qkv (3C, ...) of each block where the Evo-ViT adapter has qk (2C, ...) and v (C, ...)."""
    out = OrderedDict(state)
    for old in [k for k in state if _EVO_QK.search(k)]:
        block, kind = _EVO_QK.search(old).groups()
        before = old[:_EVO_QK.search(old).start()]
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
        return OrderedDict((k[len(prefix):], v) for k, v in state.items() if k.startswith(prefix)), False
    return state, False


def resize_pos_embed(table, to_grid, prefix=1):
    """Resample a learned position table to another grid: bicubic, align_corners False, no antialias.

    table: (1, prefix + n*n, C), the ``prefix`` class rows first. to_grid: (h, w). Returns (1, prefix + h*w, C) in the
    table's dtype with the class rows unchanged. Raises ValueError when the patch rows are not a square grid.
    """
    rows = table.shape[1] - prefix
    side = math.isqrt(max(rows, 0))
    if side * side != rows or rows <= 0:
        raise ValueError(f"a position table of {table.shape[1]} rows minus {prefix} class rows is not a square grid")
    if (side, side) == tuple(to_grid):
        return table
    patches = resize_positions(table[:, prefix:].float(), (side, side), to_grid).to(table.dtype)
    return torch.cat([table[:, :prefix], patches], dim=1)


def fit_pos_embed(table, like):
    """``table`` of a file made to fit the model's table ``like``, both (1, class rows + square grid, C), or None.

    A distillation row the model lacks is dropped; a class row the file lacks keeps the model's value.
    """
    if table.ndim != 3 or like.ndim != 3 or table.shape[-1] != like.shape[-1]:
        return None
    given, wanted = _class_rows(table.shape[1]), _class_rows(like.shape[1])
    if given is None or wanted is None:
        return None
    side = math.isqrt(like.shape[1] - wanted)
    patches = resize_pos_embed(table, (side, side), given)[:, given:]
    kept = min(given, wanted)
    return torch.cat([table[:, :kept], like[:, kept:wanted].to(table), patches], dim=1)


def fit_patch_embed(weight, like):
    """The kernel ``weight`` (C, 3, p, p) of a file for patches of the model's kernel ``like``, or None: resampled so
    that patches of another size give the same tokens (FlexiViT)."""
    if weight.ndim != 4 or weight.shape[:2] != like.shape[:2]:
        return None
    return resample_patch_embed(weight.float(), list(like.shape[-2:])).to(weight.dtype)


FITTING = {"pos_embed": fit_pos_embed, "patch_embed.proj.weight": fit_patch_embed}


def fit(name, value, like):
    """``value`` of a file for the model's tensor ``like`` of that name, where another shape can be made to fit; else
    None."""
    rule = next((rule for end, rule in FITTING.items() if name.endswith(end)), None)
    fitted = rule(value, like) if rule else None
    return None if fitted is None or fitted.shape != like.shape else fitted


def _class_rows(rows):
    """How many of ``rows`` are class rows (0, 1 or 2 with distillation), taking the rest as a square; else None."""
    return next((p for p in (1, 2, 0) if rows > p and math.isqrt(rows - p) ** 2 == rows - p), None)


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
