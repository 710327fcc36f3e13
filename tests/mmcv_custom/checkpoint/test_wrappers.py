"""Weights in the nestings and behind the prefixes that trainers and wrappers save them with."""

from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mmcv_custom import CheckpointError, PlainViTBackbone, PruningRunner, load_into, read_checkpoint
from mmcv_custom.checkpoint.wrappers import locate, unwrap


class Net(nn.Module):
    def __init__(self, value=0.0):
        super().__init__()
        self.backbone = nn.Sequential(OrderedDict(stem=nn.Linear(2, 3), norm=nn.LayerNorm(3)))
        self.head = nn.Linear(3, 2)
        for parameter in self.parameters():
            nn.init.constant_(parameter, value)

    def value(self):
        values = {float(v) for p in self.parameters() for v in p.flatten()}
        return values.pop() if len(values) == 1 else values


def behind(prefix, value=1.0, **others):
    return OrderedDict(((prefix + k, v) for k, v in Net(value).state_dict().items()), **others)


def averaged_model(network):
    return torch.optim.swa_utils.AveragedModel(network).state_dict()


STEPS = torch.tensor(3)
FILES = {
    "compiled": lambda: behind("_orig_mod."),
    "compiled, distributed": lambda: behind("module._orig_mod."),
    "compiled in part": lambda: {
        k.replace("backbone.", "backbone._orig_mod."): v for k, v in Net(1.0).state_dict().items()
    },
    "FSDP": lambda: behind("_fsdp_wrapped_module."),
    "AveragedModel": lambda: averaged_model(Net(1.0)),
    "average with a step, Lightning": lambda: {"state_dict": behind("model.module.", step=STEPS)},
    "Lightning with buffers of its loss": lambda: {"state_dict": behind("net.", **{"loss.weight": torch.ones(2)})},
    "average of Lightning": lambda: {"state_dict": {**behind("model.", 7.0), **behind("ema.", 1.0)}},
    "student and teacher in one": lambda: {**behind("student.", 7.0), **behind("teacher.", 1.0)},
    "online and average": lambda: {"ema": {**behind("online_model.", 7.0), **behind("ema_model.", 1.0), "step": STEPS}},
    "model_state_dict": lambda: {"model_state_dict": behind(""), "epoch": 3, "loss": torch.tensor(0.5)},
    "nested": lambda: {"state_dict": {"model": behind("module."), "optimizer": {}}},
    "encoder": lambda: {"encoder": behind("module."), "predictor": {}, "epoch": 3},
    "arrays": lambda: {"model": {k: v.numpy().astype(">f8") for k, v in behind("").items()}},
    "no average": lambda: {"state_dict": behind(""), "state_dict_ema": None},
}


@pytest.mark.parametrize("name", FILES)
def test_a_wrapped_network_is_loaded_whole(tmp_path, name):
    torch.save(FILES[name](), tmp_path / "x.pth")
    model = Net()
    report = load_into(model, tmp_path / "x.pth", logger="silent")
    assert model.value() == 1.0 and not report.missing


@pytest.mark.parametrize("average", ["state_dict_ema", "model_ema", "ema", "ema_state_dict"])
def test_raw_or_averaged_weights_are_taken_as_asked(average):
    file, model = {"state_dict": behind("", 1.0), average: behind("module.", 2.0)}, Net()
    report = load_into(model, file, logger="silent")
    assert model.value() == 2.0 and f"from {average}" in str(report)
    report = load_into(model, file, logger="silent", averaged=False)
    assert model.value() == 1.0 and "from state_dict" in str(report)


@pytest.mark.parametrize("asked", [True, False])
def test_a_config_asks_for_raw_or_averaged_weights(tmp_path, asked):
    """By ``averaged`` of an init_cfg, and by ``averaged_weights`` for the file that a command is given."""
    vit = dict(img_size=32, embed_dim=8, depth=1, num_heads=2)
    raw = PlainViTBackbone(**vit).state_dict()
    torch.save({"state_dict": raw, "state_dict_ema": {k: v + 1 for k, v in raw.items()}}, tmp_path / "x.pth")
    own = PlainViTBackbone(**vit, init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "x.pth"), averaged=asked))
    own.init_weights()
    torch.testing.assert_close(own.pos_embed.data, raw["pos_embed"] + asked)

    model, silent = PlainViTBackbone(**vit), dict(logger="silent", call_hook=lambda *args, **kwargs: None)
    runner = SimpleNamespace(model=model, cfg=dict(averaged_weights=asked), _strict_loading=False, **silent)
    PruningRunner.load_checkpoint(runner, tmp_path / "x.pth")
    torch.testing.assert_close(model.pos_embed.data, raw["pos_embed"] + asked)


def test_mmengines_average_is_in_state_dict():
    """Its hook exchanges the two in the file."""
    file = {"state_dict": behind("", 2.0), "ema_state_dict": behind("module.", 1.0, steps=STEPS)}
    assert locate(file) == ["state_dict"] and locate(file, averaged=False) == ["ema_state_dict"]


def test_a_prefix_that_the_model_has_itself_stays():
    class Lightning(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.model = Net(value)

    own = Lightning(0.0)
    load_into(own, Lightning(1.0).state_dict(), logger="silent")
    assert own.model.value() == 1.0
    mixed = {"encoder.weight": torch.ones(2), "decoder.weight": torch.ones(2), "neck.weight": torch.ones(2)}
    assert unwrap(mixed).keys() == unwrap(mixed, {"stem.weight"}).keys() == mixed.keys()


@pytest.mark.parametrize(
    "file", [{"epoch": 3, "weights_of_mine": {"a": torch.ones(1)}}, {"model": {}}, [1.0], {}, None]
)
def test_a_file_without_weights_is_refused_with_its_keys(file):
    keys = ", ".join(map(repr, file)) if isinstance(file, dict) else "list" if file else ""
    with pytest.raises(CheckpointError, match=f"holds no weights: there is {keys or 'nothing'} in it"):
        load_into(Net(), file)


@pytest.mark.parametrize(
    "value",
    [
        np.random.get_state(),
        np.random.default_rng(0).bit_generator.state,
        np.array(["cat", "dog"]),
        np.zeros(3, np.uint16),
        np.zeros(2, np.complex64),
        np.complex128(1j),
        np.str_("cat"),
        np.array(["2024-01-01"], "datetime64[D]"),
    ],
    ids=lambda value: getattr(getattr(value, "dtype", None), "name", type(value).__name__),
)
def test_numpy_values_are_read_as_data(tmp_path, value):
    torch.save({"model": behind(""), "value": value}, tmp_path / "x.pth")
    back = read_checkpoint(tmp_path / "x.pth")["value"]
    assert str(back) == str(value)


def test_what_cannot_be_data_is_refused_by_name(tmp_path):
    torch.save({"x": np.array([{}, 1], object)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="array of objects.*save it again"):
        read_checkpoint(tmp_path / "x.pth")
    torch.save({"x": np.random.RandomState(0)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="numpy.random.*could run code"):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_files_of_other_frameworks_are_named(tmp_path):
    np.savez(tmp_path / "x.npz", kernel=np.ones(2))
    with pytest.raises(CheckpointError, match="load it with timm"):
        read_checkpoint(tmp_path / "x.npz")
    torch.jit.save(torch.jit.trace(nn.Linear(1, 1), torch.ones(1, 1)), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="TorchScript program"):
        read_checkpoint(tmp_path / "x.pth")
