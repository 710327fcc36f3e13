"""Every task, dense and pruned, in every format: the file computes what PyTorch does, and says what it is."""

import os
import shutil
import subprocess
import sys
import textwrap

import pytest
import torch
from exports import CASES, applied, built

from mmcv_custom.export import ExportedModel, trace_model
from mmcv_custom.export.formats import FORMATS
from token_pruning_ops import library

OPTIONAL = {"onnx": ["onnx", "onnxscript", "onnxruntime"], "openvino": ["onnx", "onnxscript", "openvino"]}


@pytest.fixture(scope="session")
def traced_models():
    """Return a function from a name of ``CASES``, or "timm, EViT", to what ``trace_model`` makes of it."""
    done = {}

    def get(name, compiled=False):
        key = name, compiled
        if key not in done:
            torch.manual_seed(1)
            if name == "timm, EViT":
                done[key] = trace_model(applied(), torch.randn(2, 3, 64, 64), dynamic=["batch"])
            else:
                config, options, (batch, *size), dynamic = CASES[name]
                model = built(config, options)
                images, pruned = torch.randn(batch, 3, *size), "," in name
                if compiled:
                    dynamic = ["batch"]  # with the sides, Inductor simplifies a detector's indices for two minutes
                done[key] = trace_model(model, images, dynamic=dynamic, compiled=compiled, tokens=pruned)
        return done[key]

    return get


def path_for(name, folder):
    for module in OPTIONAL.get(name, ()):
        pytest.importorskip(module, reason=f"format {name} needs it: pip install -e .[export]")
    return folder / f"model{FORMATS[name].suffix}"


@pytest.mark.parametrize("case", [*CASES, "timm, EViT"])
@pytest.mark.parametrize("format", ["torch-export", "onnx", "openvino"])
def test_a_file_computes_what_pytorch_does(traced_models, case, format, tmp_path):
    path = path_for(format, tmp_path)
    ready = traced_models(case)
    torch.manual_seed(2)
    other = torch.randn_like(ready.images)  # more than noise that is as large everywhere
    other[..., : other.shape[-1] // 2] *= 0.1
    done = ready.write(path, format, check=[other], more=dict(classes=["a", "b"]))
    (h, w), more = other.shape[2:], ready.metadata["input"].get("multiple", 0)  # 0: the size is not free
    checked = [(batch, *size) for batch, _, *size in done.checked]
    assert checked == [(2, h, w), (2, h, w), (1, h, w), (3, h + more, w + 2 * more)]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        ["model.xml", "model.bin"] if format == "openvino" else [path.name]
    )
    file = ExportedModel(path)
    assert file.metadata == done.metadata and file.metadata["classes"] == ["a", "b"]
    assert file.metadata["format"] == format and file.metadata["gmacs"] > 0
    assert file.metadata["method"] == (case.partition(", ")[2] or None)
    found = file(other)
    with torch.no_grad():
        expected = dict(zip(ready.graph.names, ready.graph(other), strict=True))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].shape == values.shape and found[name].dtype == values.dtype, name
    assert ("tokens" in found) == (case in CASES and "," in case)
    if "tokens" in found:
        assert 0.2 < found["tokens"].float().mean() < 1
    if case.startswith("detector"):
        assert (found["labels"] >= 0).any() and torch.allclose(found["scores"], expected["scores"], atol=1e-3)


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="AOTInductor needs a C++ compiler")
@pytest.mark.parametrize("case", CASES)
def test_a_compiled_library_computes_what_pytorch_does(traced_models, case, tmp_path):
    ready = traced_models(case, compiled=case.startswith("detector"))
    done = ready.write(tmp_path / "model.pt2", "aoti", check=[torch.randn_like(ready.images)])
    batches, sizes = zip(*((batch, size) for batch, _, *size in done.checked), strict=True)
    assert batches == (2, 2, 1, 3) and (sizes[3] != sizes[0]) == ("multiple" in ready.metadata["input"])
    assert ExportedModel(tmp_path / "model.pt2").metadata == done.metadata
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt2"]


@pytest.mark.skipif("cpu" in library.MISSING, reason="deformable attention is not compiled")
def test_deformable_attention_stays_one_operator(traced_models):
    own = [str(node.target) for node in traced_models("detector", compiled=True).program.graph.nodes]
    portable = [str(node.target) for node in traced_models("detector").program.graph.nodes]

    def count(names, word):
        return sum(word in name for name in names)

    # The injector samples a pyramid of three maps, the extractor one map.
    assert count(own, "ms_deform_attn") == 2 and not count(own, "grid_sampler")
    assert not count(portable, "ms_deform_attn") and count(portable, "grid_sampler") == 3 + 1


@pytest.mark.parametrize("case", ["classifier", "classifier, ToMe"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_onnx_runtime_makes_fewer_bits(traced_models, precision, case, tmp_path):
    path = path_for("onnx", tmp_path)
    ready = traced_models(case)
    calibration = [torch.randn_like(ready.images) for _ in range(3)]
    done = ready.write(path, "onnx", precision=precision, calibration=calibration)
    assert done.metadata["precision"] == ExportedModel(path).metadata["precision"] == precision
    kind, difference = done.differences["probabilities"]
    assert kind == "values" and 0 < difference < (0.03 if precision == "fp16" else 0.3)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    weights = sum(value.numel() for value in ready.graph.parameters())
    assert path.stat().st_size < 3 * weights + 2**19 * bool(ready.metadata["method"])  # four bytes each in float32


def test_openvino_makes_int8_of_images(traced_models, tmp_path, capfd):
    pytest.importorskip("nncf", reason="it quantises: pip install -e .[export]")
    path = path_for("openvino", tmp_path)
    ready = traced_models("classifier, ToMe")
    capfd.readouterr()
    done = ready.write(path, "openvino", precision="int8", calibration=[torch.randn_like(ready.images)] * 3)
    assert not any(capfd.readouterr())  # neither notes nor bars
    assert ExportedModel(path).metadata["precision"] == "int8"
    assert 0 < max(value for _, value in done.differences.values())
    assert path.with_suffix(".bin").stat().st_size < 2 * sum(value.numel() for value in ready.graph.parameters())


def test_nothing_is_reported_to_the_makers_of_runtimes(tmp_path):
    """Their packages keep a note in the home folder as soon as they are to report; under pytest NNCF would not."""
    pytest.importorskip("nncf", reason="it quantises: pip install -e .[export]")
    program = """
        import sys, torch
        from pathlib import Path
        from mmcv_custom.export.openvino_format import load_openvino, write_openvino
        graph = torch.export.export(torch.nn.Linear(8, 8), (torch.ones(2, 8),))
        write_openvino(graph, Path(sys.argv[1]), dict(precision="int8", outputs=["values"]), [torch.ones(2, 8)])
        load_openvino(Path(sys.argv[1]))
    """
    home = tmp_path / "home"
    home.mkdir()
    variables = {name: value for name, value in os.environ.items() if name != "CI"}
    command = [sys.executable, "-c", textwrap.dedent(program), tmp_path / "model.xml"]
    subprocess.run(command, env=dict(variables, HOME=str(home)), check=True)
    assert (tmp_path / "model.xml").exists() and not list(home.glob("*ntel*"))


def test_openvino_stores_weights_of_16_bits(traced_models, tmp_path):
    path = path_for("openvino", tmp_path)
    ready = traced_models("classifier")
    ready.write(path, "openvino", precision="fp16")
    assert path.with_suffix(".bin").stat().st_size < 3 * sum(value.numel() for value in ready.graph.parameters())
