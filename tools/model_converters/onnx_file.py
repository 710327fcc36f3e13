"""Reading the tensors and the nodes of an ONNX file without the package onnx, which a plain set-up does not have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

# Numbers of fields in onnx.proto.
_GRAPH = 7
_NODE, _INITIALIZER = 1, 5
_INPUT, _OUTPUT, _NODE_NAME, _OP_TYPE = 1, 2, 3, 4
_DIMS, _DATA_TYPE, _TENSOR_NAME, _RAW, _LOCATION = 1, 2, 8, 9, 14
# TensorProto.DataType -> numpy's type. Instead of raw bytes, there may be a list of floats or of integers.
_TYPES = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
_FLOATS, _INT32, _INT64 = 4, 5, 7
_INTEGERS = (2, 3, 6, 7, 9)


@dataclass
class Node:
    """One operation of the graph."""

    op_type: str = ""
    name: str = ""
    input: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)


@dataclass
class Graph:
    """The operations of a graph in order, and its constant tensors by name."""

    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def read_graph(content: bytes) -> Graph:
    """Return the graph of an ONNX file.

    Raises:
        ValueError: a tensor is stored in a form that is not read here.
    """
    graph = Graph()
    for number, part in _fields(memoryview(content)):
        if number != _GRAPH:
            continue
        for kind, inner in _fields(part):
            if kind == _NODE:
                graph.nodes.append(_node(inner))
            elif kind == _INITIALIZER:
                name, tensor = _tensor(inner)
                graph.tensors[name] = tensor
    return graph


def _node(content: memoryview) -> Node:
    node = Node()
    for number, value in _fields(content):
        if number in (_INPUT, _OUTPUT):
            (node.input if number == _INPUT else node.output).append(str(value, "utf-8"))
        elif number == _NODE_NAME:
            node.name = str(value, "utf-8")
        elif number == _OP_TYPE:
            node.op_type = str(value, "utf-8")
    return node


def _tensor(content: memoryview) -> tuple[str, Tensor]:
    dims, kind, name, data, integers = [], 0, "", None, []
    for number, value in _fields(content):
        if number == _DIMS:
            dims += _integers(value)
        elif number == _DATA_TYPE:
            kind = value
        elif number == _TENSOR_NAME:
            name = str(value, "utf-8")
        elif number == _RAW or (number == _FLOATS and isinstance(value, memoryview)):
            data = value
        elif number in (_INT32, _INT64):
            integers += _integers(value)
        elif number == _LOCATION and value:
            raise ValueError(f"{name} is stored outside of the ONNX file")
    if integers and kind in _INTEGERS:
        data = np.array(integers).astype(_TYPES[kind])
    if kind not in _TYPES or (data is None and 0 not in dims):
        raise ValueError(f"{name} is stored in a form that is not read here (type {kind})")
    array = np.frombuffer(data if data is not None else b"", dtype=_TYPES[kind]).reshape(dims)
    return name, torch.from_numpy(array.copy())


def _integers(value: int | memoryview) -> list[int]:
    """Return the integers of a field, of which each is alone or all stand in one; negative ones have 64 bits."""
    values, at = [value] if isinstance(value, int) else [], 0
    while not isinstance(value, int) and at < len(value):
        one, at = _varint(value, at)
        values.append(one)
    return [one - (1 << 64) if one >> 63 else one for one in values]


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (number, value) of the fields of a message in protobuf's encoding; messages and texts stay bytes."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(content, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(content, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("this is no ONNX file")
        yield key >> 3, content[at : at + size]
        at += size


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
