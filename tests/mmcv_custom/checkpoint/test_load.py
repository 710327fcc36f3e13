import os
import pickle

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import nn

from mmcv_custom import CheckpointError, PlainViTBackbone, load_into, read_checkpoint


class Trunk(nn.Module):
    def __init__(self, pruned=False, side=4, dim=8):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side * side, dim))
        self.blocks = nn.ModuleList(
            nn.ModuleDict(dict(norm1=nn.LayerNorm(dim), norm2=nn.LayerNorm(dim))) for _ in range(3)
        )
        if pruned:
            self.reducer = nn.ModuleDict(
                dict(selectors=nn.ModuleList(nn.ModuleDict(dict(norm=nn.LayerNorm(dim))) for _ in range(2)))
            )


class Detector(nn.Module):
    def __init__(self, classes=3, **trunk):
        super().__init__()
        self.backbone = Trunk(**trunk)
        self.head = nn.Linear(8, classes)


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class ReadGlobals:
    def __reduce__(self):
        return getattr, (torch.Tensor, "__init__")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("read", [read_checkpoint, CheckpointLoader.load_checkpoint])
def test_malicious_file_is_refused_and_not_run(tmp_path, legacy, read):
    marker, file = tmp_path / "ran", tmp_path / "hostile.pth"
    torch.save({"state_dict": {}, "x": Touch(marker)}, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="could run code"):
        read(str(file))
    assert not marker.exists()


def test_plain_pickle_and_getattr_are_refused(tmp_path):
    file = tmp_path / "x.pth"
    with open(file, "wb") as f:
        pickle.dump({"x": Touch(tmp_path / "ran")}, f)
    with pytest.raises(CheckpointError):
        read_checkpoint(file)
    assert not (tmp_path / "ran").exists()
    torch.save({"x": ReadGlobals()}, file)
    with pytest.raises(CheckpointError, match="could run code"):
        read_checkpoint(file)


def test_what_training_writes_is_read(tmp_path):
    import argparse

    import numpy as np

    data = {"b": HistoryBuffer([1.0], [1]), "n": np.float64(0.5), "a": np.arange(3), "o": argparse.Namespace(lr=1)}
    torch.save(data, tmp_path / "x.pth")
    back = read_checkpoint(tmp_path / "x.pth")
    assert back["b"].mean() == 1.0 and back["n"] == 0.5 and back["o"].lr == 1


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04 cut"])
def test_no_checkpoint_is_one_sentence(tmp_path, content):
    file = tmp_path / "x.pth"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a checkpoint that can be read"):
        read_checkpoint(file)


def test_missing_folder_and_safetensors(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_checkpoint(tmp_path)
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    assert read_checkpoint(tmp_path / "x.safetensors")["a"].sum() == 2
    (tmp_path / "y.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        read_checkpoint(tmp_path / "y.safetensors")


def test_dense_into_pruned_and_back(capsys):
    dense, pruned = Detector(), Detector(pruned=True)
    report = load_into(pruned, {"state_dict": dense.state_dict()})
    assert "missing backbone.reducer.selectors: 4 tensors, freshly initialised (a dense checkpoint)" in str(report)
    assert report.loaded == len(dense.state_dict()) and not report.unexpected
    report = load_into(Detector(), pruned.state_dict())
    assert "unused backbone.reducer.selectors: 4 tensors (a pruned checkpoint" in str(report)
    assert "loaded 15 of the model's 15" in str(report)


def test_head_of_another_number_of_classes_is_kept_and_reported():
    report = load_into(Detector(classes=5), Detector(classes=3).state_dict())
    assert {n for n, _, _ in report.mismatched} == {"head.weight", "head.bias"}
    assert "head.weight: [3, 8] in the file, [5, 8] in the model" in str(report)
    assert report.loaded == report.total - 2


def test_weights_that_are_no_numbers_are_named():
    state = Detector().state_dict()
    state["head.weight"][0, 0], state["head.bias"][0] = torch.nan, torch.inf
    text = "NaN or infinity in head.weight and 1 more: the file is damaged, or its training has diverged"
    assert text in str(load_into(Detector(), state)) and "NaN" not in str(
        load_into(Detector(), Detector().state_dict())
    )


def test_a_table_without_values_is_refused():
    with pytest.raises(CheckpointError, match=r"pos_embed is \[0\] in the file and \[1, 17, 8\] in the model"):
        load_into(Trunk(), dict(Trunk().state_dict(), pos_embed=torch.zeros(0)))


def test_classification_file_goes_into_the_backbone(tmp_path):
    source = Trunk(side=6)
    nn.init.normal_(source.pos_embed)
    state = dict(source.state_dict(), cls_token=torch.zeros(1, 1, 8), **{"norm.weight": torch.ones(8)})
    torch.save({"model": state}, tmp_path / "deit.pth")
    model = Detector()
    report = load_into(model, tmp_path / "deit.pth")
    assert report.resized[0][:2] == ("backbone.pos_embed", (1, 37, 8)) and "parts of pretraining" in str(report)
    torch.testing.assert_close(model.backbone.pos_embed[:, 0], source.pos_embed[:, 0])
    assert load_into(Trunk(), Detector().state_dict()).loaded == 13


def test_checkpoint_of_another_model_is_refused():
    for model in (Detector(), Trunk()):
        with pytest.raises(CheckpointError, match="another model.*layer1.conv.weight, layer2.conv.weight where"):
            load_into(model, {"layer1.conv.weight": torch.ones(1), "layer2.conv.weight": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"another model.*16\] in the file and .*8\] in the model"):
        load_into(Trunk(), Trunk(dim=16).state_dict())


def test_strict_names_what_differs():
    with pytest.raises(CheckpointError, match="4 tensors missing in it"):
        load_into(Detector(pruned=True), Detector().state_dict(), strict=True)
    assert load_into(Detector(), Detector().state_dict(), strict=True).missing == []


def test_http_checkpoints_are_read_as_data_too(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    os.makedirs(tmp_path / "checkpoints")
    torch.save({"x": Touch(tmp_path / "ran")}, tmp_path / "checkpoints" / "x.pth")
    with pytest.raises(CheckpointError, match="could run code"):
        read_checkpoint("https://example.org/x.pth")
    with pytest.raises(CheckpointError, match="download it"):
        read_checkpoint("s3://bucket/x.pth")


@pytest.mark.parametrize("qkv_bias", [False, True])
def test_mmsegmentations_vit_without_qkv_bias_loads_whole(tmp_path, qkv_bias):
    """Without qkv bias, its attention has no bias at all; ours always has one in the projection."""
    mmseg = pytest.importorskip("mmseg.models.backbones")
    torch.manual_seed(0)
    theirs = mmseg.VisionTransformer(
        img_size=64,
        embed_dims=24,
        num_layers=2,
        num_heads=3,
        qkv_bias=False,
        final_norm=True,
        norm_cfg=dict(type="LN", eps=1e-6),
    )
    theirs.eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    ours = PlainViTBackbone(img_size=64, embed_dim=24, depth=2, num_heads=3, class_token=True, qkv_bias=qkv_bias).eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter)
    report = load_into(ours, tmp_path / "vit.pth", logger="silent")
    assert not report.missing and not report.unexpected and not report.mismatched
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image)[0], theirs(image)[0], atol=1e-5, rtol=1e-4)
