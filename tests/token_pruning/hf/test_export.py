"""Models of transformers, with a reducer, in an ONNX file with a free batch."""

import pytest
from hugging_face import BACKBONES, FORMS, images
from reducers import reduced, scattered

import token_pruning
from mmcv_custom.export import export_model

GRID = 36
MODELS = {**{name: lambda make=make: make()[0] for name, make in FORMS.items()}, **BACKBONES}
pytest.importorskip("onnxscript", reason="format onnx needs it: pip install -e .[export]")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", [None, "ToMe"])
def test_a_file_computes_what_the_model_does(name, method, tmp_path):
    model = token_pruning.apply(MODELS[name](), method and reduced(dict(type=method), grid=GRID))
    scattered(token_pruning.find_host(model))
    done = export_model(model.eval(), images(), tmp_path / "model.onnx", dynamic=["batch"])
    assert [shape[0] for shape in done.checked] == [3, 1, 4] and done.own is None
    assert max(value for _, value in done.differences.values()) < 1e-4 and done.metadata["method"] == method
