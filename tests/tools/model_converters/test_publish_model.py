"""A published checkpoint holds the weights of a training checkpoint, in a form that any reader takes without trust."""

import pickle
import sys

import numpy as np
import publish_model
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors import safe_open
from safetensors.torch import load_file

from mmcv_custom import ConfigError, load_into

RAW, AVERAGE = {"fc.weight": torch.ones(2, 3)}, {"fc.weight": torch.full((2, 3), 2.0)}


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Return a function that publishes a training checkpoint under a name; it returns the path."""
    meta = dict(dataset_meta=dict(classes=("cat",), palette=np.array([[1, 2, 3]])), epoch=3, seed=np.int64(7))
    hub = dict(log_scalars=dict(loss=HistoryBuffer([0.5], [1])))
    averaged = {f"module.{name}": value for name, value in RAW.items()} | dict(steps=torch.tensor(9))
    # As MMEngine's EMAHook saves them: exchanged.
    content = dict(meta=meta, state_dict=AVERAGE, ema_state_dict=averaged, optimizer=dict(lr=1), message_hub=hub)
    torch.save(content, tmp_path / "epoch_3.pth")

    def run(name, *options):
        source, target = str(tmp_path / "epoch_3.pth"), str(tmp_path / name)
        monkeypatch.setattr(sys, "argv", ["publish_model.py", source, target, *options])
        publish_model.main()
        return target

    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "epoch_3.pth", weights_only=True)
    return run


@pytest.mark.parametrize(("options", "value"), [((), 2), (("--averaged-weights",), 2), (("--no-averaged-weights",), 1)])
def test_weights_and_classes_are_read_without_trust(publish, capsys, options, value):
    found = torch.load(publish("new/model.pth", *options), weights_only=True)
    assert found["meta"] == dict(dataset_meta=dict(classes=["cat"], palette=[[1, 2, 3]])) and len(found) == 2
    assert list(found["state_dict"]) == ["fc.weight"] and (found["state_dict"]["fc.weight"] == value).all()
    said = capsys.readouterr().out
    assert "model.pth: 1 tensors" in said and "optimizer, message_hub" in said


def test_safetensors_hold_the_same_tensors(publish):
    path = publish("model.safetensors")
    assert torch.equal(load_file(path)["fc.weight"], AVERAGE["fc.weight"])
    with safe_open(path, "pt") as file:
        assert file.metadata() == dict(format="pt")
    model = torch.nn.Sequential()
    model.fc = torch.nn.Linear(3, 2, bias=False)
    assert load_into(model, path, logger="silent").loaded == 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("there.pth", "there.pth exists already: delete it or give another name"),
        ("epoch_3.pth", "epoch_3.pth exists already"),
        ("model.bin", "weights are written as .pth or .safetensors"),
    ],
)
def test_nothing_is_overwritten(publish, tmp_path, name, sentence):
    (tmp_path / "there.pth").write_bytes(b"mine")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match=sentence):
        publish(name)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
