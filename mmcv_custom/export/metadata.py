"""What an exported file says about itself: classes, input, normalisation, method, cost, versions.

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor, nn

from token_pruning import count_flops
from token_pruning.host import find_host

PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf")
INPUT = "images"
TOKENS = "tokens"  # output
# The key below which formats that have namespaces keep it.
KEY = "token_pruning"


def describe(
    graph: nn.Module, images: Tensor, dynamic: Sequence[str], multiple: int, **more: object
) -> dict[str, object]:
    """Return the metadata of ``graph``, which has run once on ``images`` (B, 3, h, w).

    Args:
        graph: one of ``graphs``.
        images: the example that it is traced with.
        dynamic: what of its shape is free.
        multiple: of which a free height and width are multiples.
        more: further entries: format, precision, normalisation, classes, ...
    """
    host = find_host(graph)
    reducer = getattr(host, "reducer", None)
    with torch.no_grad(), count_flops() as flops:
        graph(images)
    if TOKENS in graph.names:
        blocks = [] if reducer is None else list(reducer.pruned_blocks)
        more[TOKENS] = dict(patch=host.patch_embed.patch_size[0], pruned_blocks=blocks)
    shape: list[int | str] = [*images.shape]
    if "batch" in dynamic:
        shape[0] = "batch"
    if "size" in dynamic:
        shape[2:] = ["height", "width"]
    dtype = str(images.dtype).removeprefix("torch.")
    return dict(
        task=graph.task,
        input=dict(name=INPUT, shape=shape, dtype=dtype, **(dict(multiple=multiple) if "size" in dynamic else {})),
        outputs=list(graph.names),
        method=None if reducer is None else type(reducer).__name__,
        gmacs=flops.gmacs / images.shape[0],
        gmacs_at=list(images.shape[-2:]),
        versions=_versions(),
        **more,
    )


def normalisation(preprocessor: nn.Module | None) -> dict[str, object]:
    """Return how a toolbox's data preprocessor makes inputs of images: mean, std and the channels' order."""
    parts = vars(preprocessor) if preprocessor is not None else {}
    converts = any(parts.get(name) for name in ("_channel_conversion", "channel_conversion", "to_rgb"))
    normalises = bool(parts.get("_enable_normalize"))
    mean, std = (
        [float(value) for value in getattr(preprocessor, name).flatten()] if normalises else [default] * 3
        for name, default in (("mean", 0.0), ("std", 1.0))
    )
    # The pipelines load BGR.
    return dict(mean=mean, std=std, channels="RGB" if converts or preprocessor is None else "BGR")


def as_strings(metadata: Mapping[str, object]) -> dict[str, str]:
    """Return the entries as text, for formats that hold nothing else."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}


def from_strings(found: Mapping[str, str]) -> dict[str, object]:
    """Return what ``as_strings`` was given."""
    return {name: _value(text) for name, text in found.items()}


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
