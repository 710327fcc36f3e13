"""Finding the weights in a checkpoint: the entry that holds them, and the prefixes that wrappers add to their names."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor

_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "averaged_model", "ema")
_RAW = (
    *("state_dict", "model", "model_state_dict", "model_state", "network", "net", "weights", "params"),
    *("module", "online_model", "target_encoder", "encoder"),
)
# Self-supervision averages the student into the teacher; elsewhere a teacher may be another network, so they come last.
_ORDER = {True: (*_AVERAGED, *_RAW, "teacher", "student"), False: (*_RAW, "student", *_AVERAGED, "teacher")}
# Parts of a name that torch.compile, FSDP and checkpointing of activations insert anywhere in it.
_INSERTED = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def locate(checkpoint: object, averaged: bool = True) -> list[str]:
    """Return the keys that lead to the state dict in a checkpoint; none if the checkpoint itself is one.

    Args:
        checkpoint: the content of a file.
        averaged: of raw and averaged weights side by side, whether to take the averaged ones.
    """
    path: list[str] = []
    while isinstance(checkpoint, dict):
        entries = checkpoint
        names = [name for name in _ORDER[averaged] if isinstance(entries.get(name), dict)]
        if {"state_dict", "ema_state_dict"} <= {*names} and "steps" in entries["ema_state_dict"]:
            names = ["state_dict" if averaged else "ema_state_dict"]  # MMEngine's EMAHook saves them exchanged
        if not names:
            break
        path.append(names[0])
        checkpoint = entries[names[0]]
    return path


def unwrap(checkpoint: object, names: Collection[str] = (), averaged: bool = True) -> OrderedDict[str, Tensor]:
    """Return the state dict inside a checkpoint, without the prefixes that wrappers add to names.

    The wrappers are those of torch.compile, (distributed) data parallel, FSDP, ``AveragedModel``, Lightning, and other
    trainers that keep a network as ``model``, ``net``, ``encoder``, ``student`` and the like. NumPy arrays become
    tensors; entries that are neither are left out.

    Args:
        checkpoint: the content of a file.
        names: the model's names, if known: weights beside the wrapped network may be dropped then, and prefixes that
            the model has itself stay.
        averaged: of raw and averaged weights side by side, whether to take the averaged ones.

    Raises:
        ValueError: there are no tensors.
    """
    source: object = checkpoint
    for name in locate(checkpoint, averaged):
        source = source[name]  # type: ignore[index]
    tensors = OrderedDict()
    for name, value in source.items() if isinstance(source, dict) else ():
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufc":
            value = torch.from_numpy(np.array(value, value.dtype.newbyteorder("=")))
        if torch.is_tensor(value):
            tensors[_cleaned(name)] = value
    if not tensors:
        kind = "" if checkpoint is None else type(checkpoint).__name__
        there = ", ".join(map(repr, list(checkpoint)[:8])) if isinstance(checkpoint, dict) else kind
        raise ValueError(
            f"holds no weights: there is {there or 'nothing'} in it; expected tensors by name, at top level or under "
            "'state_dict', 'model', 'teacher' or another usual key"
        )
    # Versions of modules, which PyTorch uses to upgrade weights of older layers, and grids of position tables.
    notes = {_cleaned(name): note for name, note in (getattr(source, "_metadata", None) or {}).items()}
    while prefix := _prefix(tensors, names, averaged):
        tensors = OrderedDict((k[len(prefix) :], v) for k, v in tensors.items() if k.startswith(prefix))
        notes = {f"{k}."[len(prefix) :].removesuffix("."): v for k, v in notes.items() if f"{k}.".startswith(prefix)}
    tensors._metadata = OrderedDict(notes) or None  # type: ignore[attr-defined]
    return tensors


def _cleaned(name: object) -> str:
    return ".".join(part for part in str(name).split(".") if part not in _INSERTED)


def _prefix(state: Mapping[str, Tensor], names: Collection[str], averaged: bool) -> str | None:
    """Return a wrapper's prefix of the names in ``state``, if the model's ``names`` are not there without it."""
    own = {*names} | {name.removeprefix("backbone.") for name in names}
    if own & state.keys():
        return None
    counts = Counter(name.split(".")[0] for name, value in state.items() if value.ndim or "." in name)
    wrappers = [word for word in _ORDER[averaged] if counts[word]]
    wrapped = sum(counts[word] for word in wrappers)
    if wrapped < counts.total() and (not names or 2 * wrapped < counts.total()):
        return None
    return next((f"{word}." for word in wrappers if not any(name.startswith(f"{word}.") for name in names)), None)
