"""ONNX forms of three operators that the methods use and torch's exporter does not know, and of one it gets wrong.

ONNX's TopK puts the lower index first among equal values, but other runtimes order them as they like. So wherever
values may be equal, the keys that are sorted here are made distinct.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch


def translations() -> dict[Callable, Callable]:
    """Return the table for ``torch.onnx.export(custom_translation_table=...)``, of opset 20."""
    from onnxscript import opset20 as op

    aten = torch.ops.aten

    def const(value):
        return op.Constant(value_ints=[value] if isinstance(value, int) else list(value))

    def positions(x, dim):
        """Return how many there are along ``dim``, 1-D, and their numbers, 1-D int64."""
        size = op.Gather(op.Shape(x), const(dim), axis=0)
        zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
        return size, op.Range(zero, op.Squeeze(size), one)

    def sort_stable(self, stable=True, dim=-1, descending=False):
        rank = len(self.shape)
        dim = dim % rank
        size, places = positions(self, dim)
        if self.dtype.is_integer() or self.dtype.name == "BOOL":
            # Distinct keys: of equal values the earlier comes first in both orders.
            if dim < rank - 1:
                places = op.Unsqueeze(places, const(range(1, rank - dim)))
            key = op.Mul(op.Cast(self, to=7), size)
            key = op.Sub(key, places) if descending else op.Add(key, places)
        else:
            key = self
        _, order = op.TopK(key, size, axis=dim, largest=int(bool(descending)), sorted=1)
        return op.GatherElements(self, order, axis=dim), order

    def nonzero_static(self, size, fill_value=-1):
        wanted = const(size) if isinstance(size, int) else op.Reshape(op.Cast(size, to=7), const([1]))
        found = op.Reshape(op.NonZero(self), const([-1]))
        found = op.Concat(found, op.Expand(const(fill_value), wanted), axis=0)
        return op.Reshape(op.Slice(found, const([0]), wanted), op.Concat(wanted, const([1]), axis=0))

    def searchsorted(sorted_sequence, self, out_int32=False, right=False, side=None, sorter=None):
        rank = len(self.shape)
        left = op.Unsqueeze(sorted_sequence, const(len(sorted_sequence.shape) - 1))
        values = op.Unsqueeze(self, const(rank))
        before = op.LessOrEqual(left, values) if right or side == "right" else op.Less(left, values)
        return op.ReduceSum(op.Cast(before, to=6 if out_int32 else 7), const(-1), keepdims=0)

    def floor_divide(self, other):
        # ONNX divides whole numbers towards zero, and torch writes "half of n, rounded up" as -(-n // 2).
        self, other = (const(n) if isinstance(n, int) else n for n in (self, other))
        return op.Div(op.Sub(self, op.Mod(self, other)), other)

    return {
        operator.floordiv: floor_divide,
        aten.sort.stable: sort_stable,
        aten.nonzero_static.default: nonzero_static,
        aten.searchsorted.Tensor: searchsorted,
    }
