"""Reading and writing files of weights, as the converters share it: read as data, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mmcv_custom import CheckpointError, ConfigError, read_checkpoint
from mmcv_custom.checkpoint import key_maps
from mmcv_custom.checkpoint.wrappers import locate, unwrap
from mmcv_custom.files import write_file


def check_new(path: str, suffixes: tuple[str, ...] = (".pth", ".pt")) -> None:
    """Raise ConfigError if ``path`` is not a name for a new file of weights."""
    if not path.endswith(suffixes):
        known = " or ".join(suffix for suffix in suffixes if suffix != ".pt")  # the short form of .pth
        raise ConfigError(f"{path}: weights are written as {known}, give a name that ends so")
    if os.path.exists(path):
        raise ConfigError(f"{path} exists already: delete it or give another name")


def read_weights(
    path: str, network: str | None = None, averaged: bool = True
) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """Read the weights in a file with native names, and what the file holds besides.

    Args:
        path: the file.
        network: the network to take from a file with several.
        averaged: of raw and averaged weights side by side, whether to take the averaged ones.

    Raises:
        CheckpointError: the file cannot be read, or has no such network.
    """
    checkpoint = read_checkpoint(path)
    if network and not (isinstance(checkpoint, dict) and isinstance(checkpoint.get(network), dict)):
        raise CheckpointError(f"{path} has no {network}: leave --network out")
    try:
        state = unwrap(checkpoint[network] if network else checkpoint, averaged=averaged)
    except ValueError as error:
        raise CheckpointError(f"{path} {error}") from None
    own = network or next(iter(locate(checkpoint, averaged)), None)
    others = {name: value for name, value in checkpoint.items() if name != own and not torch.is_tensor(value)}
    return key_maps.from_published(state), others


def class_meta(others: dict[str, Any]) -> dict[str, Any]:
    """Take ``meta`` out of what a file holds besides weights; return of it the names and colours of the classes."""
    meta = others.pop("meta", None) or {}
    return {name: value for name, value in meta.items() if name == "dataset_meta"}


def renamed(rename: Callable[[Mapping], Mapping], state: Mapping[str, Tensor], path: str) -> Mapping[str, Tensor]:
    """Return ``rename(state)`` for the weights of the file at ``path``.

    Raises:
        CheckpointError: the target has no place for one of the weights.
    """
    try:
        return rename(state)
    except ValueError as error:
        raise CheckpointError(f"{path} {error}") from None


def write_new(path: str, content: object) -> None:
    """Save ``content`` at ``path``, whole or not at all; missing folders are created."""
    write_file(path, lambda file: torch.save(content, file))


def say_left_out(before: Iterable[str], after: Iterable[str], others: Iterable[str]) -> None:
    """Print what is left out: weights of ``before`` that are not among ``after``, and the ``others``."""
    kept = {*after}
    gone = [name for name in before if not {name, name.removeprefix("backbone.")} & kept]
    for names, what in ((gone, "weights"), ([*map(str, others)], "no weights of it")):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            print(f"left out ({what}): {', '.join(names[:5])}{more}")
