"""TopK in OpenVINO: in the order of numpy's stable sort, without OpenVINO's own stable TopK."""

import numpy as np
import pytest

openvino = pytest.importorskip("openvino", reason="needs it: pip install -e .[export]")

from openvino import opset13  # noqa: E402

from mmcv_custom.export import openvino_topk  # noqa: E402
from mmcv_custom.export.openvino_topk import order_equal_values  # noqa: E402


def topk_model(shape, k, axis, mode):
    values = opset13.parameter(openvino.PartialShape(shape), openvino.Type.f32)
    node = opset13.topk(values, opset13.constant(np.array(k, np.int64)), axis, mode, "value", "i64")
    model = openvino.Model(list(node.outputs()), [values])
    order_equal_values(model)
    return model


def stable_flags(model):
    return [node.get_attributes()["stable"] for node in model.get_ops() if node.get_type_name() == "TopK"]


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(
    "shape, k, axis", [((2, 197), 98, 1), ((1, 64), 64, -1), ((2, 50, 3), 20, 1), ((9,), 9, 0), ((3, 5), 1, 0)]
)
@pytest.mark.parametrize("levels", [1, 3, 10**6])
def test_of_equal_values_the_lower_index_comes_first(shape, k, axis, mode, levels):
    model = topk_model((-1, *shape[1:]) if axis % len(shape) else shape, k, axis, mode)
    assert stable_flags(model) == [False] * 3
    run = openvino.Core().compile_model(model, "CPU")
    random_numbers = np.random.default_rng(0)
    for _ in range(3):
        values = random_numbers.integers(0, levels, shape).astype(np.float32)
        found, order = run([values]).values()
        expected = np.argsort(-values if mode == "max" else values, axis, kind="stable").take(range(k), axis)
        assert (order == expected).all()
        assert (found == np.take_along_axis(values, expected, axis)).all()


def test_infinite_values_keep_their_order():
    model = topk_model((6,), 4, 0, "max")
    values = np.array([-np.inf, 1, np.inf, -np.inf, np.inf, 1], np.float32)
    _, order = openvino.Core().compile_model(model, "CPU")([values]).values()
    assert order.tolist() == [2, 4, 1, 5]


def test_a_size_whose_keys_do_not_fit_is_left_to_openvino(monkeypatch):
    monkeypatch.setattr(openvino_topk, "LARGEST_K", 7)
    assert stable_flags(topk_model((2, 9), 8, 1, "max")) == [True]
    assert stable_flags(topk_model((2, 9), 7, 1, "max")) == [False] * 3
