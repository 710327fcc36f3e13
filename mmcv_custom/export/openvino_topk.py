"""TopK of OpenVINO in the order that ONNX promises, of equal values the lower index first, and fast.

OpenVINO's own stable TopK compares n k times: 70 ms for 4,200 values, where its unstable one, which orders equal values
as it likes, takes 0.4. So the unstable one runs, on keys that are never equal.

Shapes: n values along an axis, k of them wanted; other axes are kept.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LARGEST_K = 46340  # keys are below k squared, and OpenVINO counts in 32 bits


def order_equal_values(model: object) -> None:
    """Replace every sorted TopK of an OpenVINO model, in place. A k that is known at run time only may be LARGEST_K."""
    make = _LastAxis()
    for node in model.get_ordered_ops():
        if node.get_type_name() != "TopK" or node.get_attributes()["sort"] != "value":
            continue
        values, k = node.input_value(0), node.input_value(1)
        axis, mode = node.get_attributes()["axis"], node.get_attributes()["mode"]
        known = node.output(0).get_partial_shape()[axis]
        if known.is_static and known.get_length() > LARGEST_K:
            new = make.topk(values, k, axis, mode, stable=True)
        else:
            new = make.along(axis, values, lambda x, k=k, mode=mode: make.stable_topk(x, k, mode))
        for old, output in zip(node.outputs(), new, strict=True):
            old.replace(output)


class _LastAxis:
    """Nodes of OpenVINO, which work along the last axis."""

    def __init__(self) -> None:
        from openvino import opset13

        self.op = opset13

    def along(self, axis: int, values: object, function: Callable[[object], list]) -> list:
        """Return what a function of the last axis gives along ``axis``."""
        rank = values.get_partial_shape().rank.get_length()
        if axis % rank == rank - 1:
            return function(values)
        turn = list(range(rank))
        turn[axis], turn[-1] = turn[-1], turn[axis]
        return [
            self.op.transpose(x, self.int(turn)).output(0) for x in function(self.op.transpose(values, self.int(turn)))
        ]

    def stable_topk(self, values: object, k: object, mode: str) -> list:
        """Return the outputs for k sorted values and for their indices, along the last axis."""
        k = self.as_int(k)
        last = self.op.unsqueeze(
            self.op.gather(self.topk(values, k, -1, mode)[0], self.op.subtract(k, self.int(1)), self.int(-1)),
            self.int(-1),
        )
        # Which ones: all that are better than the last, and the first of those that equal it.
        better = (self.op.greater if mode == "max" else self.op.less)(values, last)
        equal = self.op.equal(values, last)
        room = self.op.subtract(k, self.op.reduce_sum(self.as_int(better), self.int([-1]), keep_dims=True))
        places = self.places(
            self.op.logical_or(better, self.op.logical_and(equal, self.op.less_equal(self.running(equal), room))), k
        )
        picked = self.op.gather_elements(values, places, -1)
        # In which order: equal values are a group, and within a group the place decides.
        ranked, order = self.topk(picked, k, -1, mode)
        before = self.op.concat([self.part(ranked, 0, 1), self.part(ranked, 0, -1)], -1)
        groups = self.running(self.op.not_equal(ranked, before))
        groups = self.op.scatter_elements_update(groups, order, groups, self.int(-1))
        _, order = self.topk(self.op.add(self.op.multiply(groups, k), self.numbers(groups)), k, -1, "min")
        return [self.op.gather_elements(x, order, -1).output(0) for x in (picked, places)]

    def places(self, chosen: object, k: object) -> object:
        """Return the indices of the k places that hold true, ascending."""
        inside = self.op.subtract(self.running(chosen), self.int(1))
        outside = self.op.add(self.running(self.op.logical_not(chosen)), self.op.subtract(k, self.int(1)))
        target = self.op.select(chosen, inside, outside)  # a permutation of all places
        numbers = self.op.broadcast(self.numbers(target), self.op.shape_of(target, "i64"))
        found = self.op.scatter_elements_update(target, target, numbers, self.int(-1))
        return self.op.slice(found, self.int([0]), self.op.unsqueeze(k, self.int(0)), self.int([1]), self.int([-1]))

    def numbers(self, like: object) -> object:
        """Return 0, 1, ... for the last axis."""
        return self.op.range(
            self.int(0), self.op.gather(self.op.shape_of(like, "i64"), self.int(-1), self.int(0)), self.int(1), "i64"
        )

    def topk(self, values: object, k: object, axis: int, mode: str, stable: bool = False) -> tuple[object, object]:
        node = self.op.topk(values, k, axis, mode, "value", "i64", stable=stable)
        return node.output(0), node.output(1)

    def running(self, x: object) -> object:
        """Return how many are true up to each place of the last axis."""
        return self.op.cumsum(self.as_int(x), self.int(-1))

    def part(self, x: object, start: int, end: int) -> object:
        return self.op.slice(x, self.int([start]), self.int([end]), self.int([1]), self.int([-1]))

    def as_int(self, x: object) -> object:
        return self.op.convert(x, "i64")

    def int(self, value: int | list[int]) -> object:
        return self.op.constant(np.array(value, np.int64))
