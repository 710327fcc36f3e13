"""Operators that torch's exporter does not know, in ONNX Runtime and OpenVINO as in PyTorch."""

import pytest
import torch

from mmcv_custom.export.onnx_ops import translations

for module in ("onnx", "onnxscript"):
    pytest.importorskip(module, reason="needs it: pip install -e .[export]")


# Name -> function, and the shape of an input whose first size is free.
CASES = {
    "nonzero_static, fewer": (lambda x: torch.nonzero_static(x > 0, size=3), (31,)),
    "nonzero_static, more": (lambda x: torch.nonzero_static(x > 0, size=80), (31,)),
    "nonzero_static, filled": (lambda x: torch.nonzero_static(x > 1, size=20, fill_value=7), (31,)),
    "nonzero_static, none": (lambda x: torch.nonzero_static(x > 0, size=0), (31,)),
    "sort, free size": (lambda x: torch.sort(x, stable=True, dim=0), (7, 5)),
    "sort, free size, descending": (lambda x: torch.sort(x, stable=True, dim=0, descending=True), (7, 5)),
    "sort, free batch": (lambda x: torch.sort(x, stable=True, descending=True), (7, 5)),
    "sort of whole numbers": (lambda x: torch.sort(x.long(), stable=True, descending=True), (7, 5)),
    "searchsorted": (lambda x: torch.searchsorted(torch.sort(x, stable=True).values, x), (31,)),
    "searchsorted, right": (lambda x: torch.searchsorted(torch.sort(x, stable=True).values, x, right=True), (31,)),
}


class Calls(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


def in_onnx_runtime(path):
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {session.get_inputs()[0].name: x})


def in_openvino(path):
    openvino = pytest.importorskip("openvino")
    from mmcv_custom.export.openvino_topk import order_equal_values

    model = openvino.Core().read_model(path)
    order_equal_values(model)
    network = openvino.Core().compile_model(model, "CPU")
    return lambda x: list(network([x]).values())


@pytest.mark.parametrize("name", CASES)
def test_an_operator_gives_the_values_of_pytorch(name, tmp_path):
    function, (number, *rest) = CASES[name]
    path = str(tmp_path / "model.onnx")

    def values(count):  # many of them equal
        return torch.randint(-2, 3, (count, *rest)).float()

    program = torch.export.export(Calls(function), (values(number),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.onnx.export(
        program, (), path, dynamo=True, opset_version=20, custom_translation_table=translations(), verbose=False
    )
    for run in (in_onnx_runtime(path), in_openvino(path)):
        for count in (number, 2 * number + 1):
            x = values(count)
            expected = function(x)
            expected = [expected] if isinstance(expected, torch.Tensor) else expected
            for found, wanted in zip(run(x.numpy()), expected, strict=True):
                assert found.shape == tuple(wanted.shape) and (found == wanted.numpy()).all()
