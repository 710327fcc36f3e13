"""Reading checkpoints without running any code in the file."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import warnings
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from ..errors import CheckpointError
from ..shipped import find_file

_URL = re.compile(r"[\w-]+://")
_REFUSED = re.compile(r"(?:GLOBAL|function|class) <?([\w.]*\.\w+)")
_DTYPES = {type(np.dtype(code)) for code in np.typecodes["All"] if code not in "OV"}  # objects need not be data
_UNREAD = {  # what PyTorch says -> what it means
    "TorchScript": "is a TorchScript program and could run code when read: read it with torch.jit.load if you trust "
    "it, and save its state_dict()",
    "ObjectDType": "was not loaded because it holds a numpy array of objects, which could run code when read: save it "
    "again with arrays of numbers or texts",
}


def _history_method(owner, name):
    # MMEngine's resume files store four methods of HistoryBuffer as `getattr` calls. The real `getattr` would let a
    # malicious file overwrite the globals of any allowed function, so only these four names are allowed.
    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise pickle.UnpicklingError(f"GLOBAL builtins.getattr of {name} is not allowed")
    return getattr(HistoryBuffer, name)


def _safe_globals():
    """Return what a file may contain besides tensors: numpy values, MMEngine's logged scalars, options of a run."""
    core = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray
    allowed = [np.ndarray, np.dtype, HistoryBuffer, argparse.Namespace, (_history_method, "builtins.getattr")]
    for name in ("_reconstruct", "scalar"):  # numpy 1 and 2 write different module paths
        allowed += [(getattr(core, name), f"numpy.{path}.multiarray.{name}") for path in ("core", "_core")]
    return allowed + sorted(_DTYPES, key=str)


def find_checkpoint(path: str | os.PathLike, hint: str | None = None) -> str:
    """Return the file of a checkpoint: ``path``, or the project's file of that name; a URL stays as it is.

    Raises:
        CheckpointError: there is no such file; ``hint`` says what to do.
    """
    path = os.path.expanduser(path)
    if _URL.match(path):
        return path
    found = find_file(path)
    if os.path.isdir(found):
        raise CheckpointError(f"checkpoint {path} is a folder: name a file in it")
    if not os.path.isfile(found):
        if os.path.basename(os.path.dirname(path)) == "pretrained":
            hint = "pretrained/README.md says where it comes from"
        raise CheckpointError(f"checkpoint {path} does not exist: {hint or 'check the path'}")
    return found


def read_checkpoint(path: str | os.PathLike, map_location: object = "cpu") -> Any:
    """Read a checkpoint (.pth, .pt, .safetensors; local or http) as data: nothing in the file can run.

    Raises:
        CheckpointError: the file is missing, is not a checkpoint, or holds anything but tensors, numbers, texts and
            their containers.
    """
    path = str(path)
    if _URL.match(path):
        return CheckpointLoader.load_checkpoint(path, map_location=map_location, logger="silent")
    return _read_local(path, map_location)


@CheckpointLoader.register_scheme(prefixes="", force=True)
def _read_local(filename, map_location=None):
    filename = find_checkpoint(filename)
    if filename.endswith(".npz"):
        raise CheckpointError(
            f"{filename} holds the arrays of another framework: load it with timm (checkpoint_path of "
            "timm.create_model) and save the state_dict() of that model"
        )
    if filename.endswith(".safetensors"):
        return _read_safetensors(filename, map_location)
    try:
        with torch.serialization.safe_globals(_safe_globals()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            warnings.filterwarnings("ignore", message=".*TorchScript archive")
            return torch.load(filename, map_location=map_location, weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        # A refused file names the object; truncated archives and files of other kinds fail in a dozen other ways,
        # depending on where reading stops, and all mean the same to the user.
        known = next((meaning for word, meaning in _UNREAD.items() if word in str(error)), None)
        if known:
            raise CheckpointError(f"{filename} {known}") from None
        refused = _REFUSED.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if refused is None:
            raise CheckpointError(
                f"{filename} is not a checkpoint that can be read: download or save it again"
            ) from None
        raise CheckpointError(
            f"{filename} was not loaded because it holds {refused.group(1)}, which could run code "
            "when read: save it again with tensors, numbers and texts only, or get it in that form from its publisher"
        ) from None


def _read_safetensors(filename, map_location):
    from safetensors.torch import load_file

    try:
        state = load_file(filename)
    except Exception as error:  # safetensors has its own exception type per version
        raise CheckpointError(f"{filename} is not a safetensors file that can be read ({error})") from None
    return {k: v.to(map_location) for k, v in state.items()} if isinstance(map_location, (str, torch.device)) else state


@CheckpointLoader.register_scheme(prefixes=("http://", "https://"), force=True)
def _read_url(url, map_location=None):
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    path = os.path.join(folder, os.path.basename(url.split("?")[0]))
    if not os.path.isfile(path):
        os.makedirs(folder, exist_ok=True)
        try:  # written under a temporary name and moved, so several processes may do it at once
            torch.hub.download_url_to_file(url, path, progress=is_main_process())
        except OSError as error:
            raise CheckpointError(f"checkpoint {url} could not be downloaded ({error})") from None
    return _read_local(path, map_location)


@CheckpointLoader.register_scheme(prefixes=[r"(\S+\:)?s3://", r"(\S+\:)?petrel://", "pavi://"], force=True)
def _refuse_remote(url, map_location=None):
    raise CheckpointError(f"checkpoint {url} is not read from there: download it and give the local path")
