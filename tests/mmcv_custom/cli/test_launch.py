"""How tools end: a mistake of the user in one sentence with exit code 2, a bug with its traceback."""

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS

import token_pruning
from mmcv_custom import ConfigError, DataError
from mmcv_custom.cli.launch import build_model, build_runner, run
from token_pruning.errors import SettingError


@pytest.fixture
def toys(monkeypatch):
    """Register a toy model and data set in MMEngine's registries while the test runs."""

    class ToyModel(BaseModel):
        def __init__(self, width=4):
            super().__init__()
            self.fc = torch.nn.Linear(width, 1)

        def forward(self, inputs, mode="tensor"):
            return dict(loss=self.fc(torch.stack(list(inputs))).mean())

    class ToyData(torch.utils.data.Dataset):
        def __init__(self, broken=False):
            self.broken = broken

        def __len__(self):
            return 2

        def __getitem__(self, i):
            if self.broken:
                raise ValueError("a bug")
            return dict(inputs=torch.ones(4))

    monkeypatch.setitem(MODELS.module_dict, "ToyModel", ToyModel)
    monkeypatch.setitem(DATASETS.module_dict, "ToyData", ToyData)


def config(folder, **options):
    cfg = Config(
        dict(
            model=dict(type="ToyModel"),
            train_dataloader=dict(batch_size=1, sampler=dict(type="DefaultSampler"), dataset=dict(type="ToyData")),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
            param_scheduler=dict(type="MultiStepLR", milestones=[1]),
            work_dir=str(folder),
            runner_type="PruningRunner",
            log_level="ERROR",
            experiment_name=folder.name,
            default_scope="mmengine",
        )
    )
    cfg.merge_from_dict(options)
    return cfg


def ended(capsys, main):
    """Run ``main`` as a tool and return what it printed to stderr when it ended with exit code 2."""
    with pytest.raises(SystemExit) as end:
        run(main)
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("error", [ConfigError, DataError, SettingError])
def test_a_mistake_of_the_user_ends_in_one_sentence(capsys, error):
    def main():
        raise error("depth is 0; it must be 1 or more")

    said = ended(capsys, main)
    assert said.endswith("depth is 0; it must be 1 or more\n") and said.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError, TypeError, KeyError, RuntimeError])
def test_a_bug_is_not_swallowed(error):
    def main():
        raise error("a bug")

    with pytest.raises(error, match="a bug"):
        run(main)


def test_ctrl_c_is_no_bug(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        run(main)
    assert end.value.code == 130 and capsys.readouterr().err.endswith(": interrupted\n")


def test_a_misuse_of_the_core_by_code_is_not_swallowed():
    with pytest.raises(ValueError, match="no reducer to remove"):
        run(lambda: token_pruning.remove(torch.nn.Linear(1, 1)))


@pytest.mark.parametrize(
    "option, message",
    [
        (dict(model=dict(type="ToyModel", widht=3)), "the config does not fit: .*unexpected keyword argument 'widht'"),
        ({"model.type": "NoModel"}, "the config does not fit: .*NoModel is not in the mmengine::model registry"),
        ({"model.width": "wide"}, "the config does not fit: "),
        ({"train_dataloader.dataset.typo": 1}, "the config does not fit: .*unexpected keyword argument 'typo'"),
        ({"optim_wrapper.optimizer.learning": 1}, "the config does not fit: .*unexpected keyword argument 'learning'"),
        ({"param_scheduler.typo": 1}, "the config does not fit: .*unexpected keyword argument 'typo'"),
        (
            {"param_scheduler": [dict(type="LinearLR", begin=2, end=1)]},
            "param_scheduler begins when the training has ended",
        ),
    ],
    ids=["model key", "model type", "model value", "data set", "optimizer", "schedule", "late schedule"],
)
def test_a_config_that_cannot_be_built_ends_in_one_sentence(toys, tmp_path, capsys, option, message):
    said = ended(capsys, lambda: build_runner(config(tmp_path, **option), splits=()).train())
    assert said.count("\n") == 1
    with pytest.raises(ConfigError, match=message) as caught:
        build_runner(config(tmp_path, **option), splits=()).train()
    assert str(caught.value) in said and caught.value.__cause__ is not None


def test_a_model_that_cannot_be_built_is_a_config_error(toys, tmp_path):
    with pytest.raises(ConfigError, match="the config does not fit: .*'widht'"):
        build_model(config(tmp_path, **{"model.widht": 3}), None)


def test_a_bug_while_training_is_not_swallowed(toys, tmp_path):
    cfg = config(tmp_path, **{"train_dataloader.dataset.broken": True})
    with pytest.raises(ValueError, match="a bug"):
        run(lambda: build_runner(cfg, splits=()).train())
