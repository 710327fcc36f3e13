"""What the converters share: files of weights that are read as data, and appear whole or not at all."""

import os

import torch

from mmcv_custom import CheckpointError, ConfigError, read_checkpoint
from mmcv_custom.checkpoint import key_maps
from mmcv_custom.files import write_file


def check_new(path):
    """Raises ConfigError where ``path`` is no name for a new file of weights."""
    if not path.endswith((".pth", ".pt")):
        raise ConfigError(f"{path}: weights are written as .pth, give a name that ends so")
    if os.path.exists(path):
        raise ConfigError(f"{path} exists already: delete it or give another name")


def read_weights(path, network=None):
    """The state dict in a file by the house's names, and what the file holds beside it, by name. ``network``: of a file
    with several, the one to take. Raises CheckpointError."""
    checkpoint = read_checkpoint(path)
    if network and not (isinstance(checkpoint, dict) and isinstance(checkpoint.get(network), dict)):
        raise CheckpointError(f"{path} has no {network}: leave --network out")
    try:
        state = key_maps.unwrap(checkpoint[network] if network else checkpoint)
    except ValueError as error:
        raise CheckpointError(f"{path} {error}") from None
    own = network or key_maps.wrapper_of(checkpoint)
    others = {name: value for name, value in checkpoint.items() if name != own and not torch.is_tensor(value)}
    return key_maps.from_published(state), others


def to_mmseg(state, path):
    """``key_maps.to_mmseg`` of what was in the file at ``path``. Raises CheckpointError."""
    try:
        return key_maps.to_mmseg(state)
    except ValueError as error:
        raise CheckpointError(f"{path} {error}") from None


def write_new(path, content):
    """Save ``content`` at ``path``, whose folder is made; a reader never meets half a file."""
    write_file(path, lambda file: torch.save(content, file))


def say_left_out(before, after, others):
    """Print which weights of the state dict ``before`` are not among the names ``after``, and which ``others`` there
    were."""
    gone = [name for name in before if not {name, name.removeprefix("backbone.")} & {*after}]
    for names, what in ((gone, "weights"), ([*map(str, others)], "no weights of it")):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            print(f"left out ({what}): {', '.join(names[:5])}{more}")
