import os
import random
import signal

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from scripts import run_tool
from torch import nn

from mmcv_custom import CheckpointError, PruningRunner, SeedByIterHook, latest_checkpoint


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, inputs, mode="tensor"):
        x = torch.stack([torch.as_tensor(v) for v in inputs]).float() if isinstance(inputs, list) else inputs.float()
        return dict(loss=(self.fc(x + torch.randn_like(x)) ** 2).mean())


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, i):
        return dict(inputs=torch.full((4,), float(i)))


DATA = dict(dataset=Data(), batch_size=2, sampler=dict(type="DefaultSampler", shuffle=True))
SCHEDULE = [dict(type="MultiStepLR", by_epoch=True, milestones=[2])]


def runner(work_dir, epochs=4, hooks=(), accumulate=1, **options):
    saving = dict(checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=1), logger=None)
    return PruningRunner(
        model=Toy(),
        work_dir=str(work_dir),
        train_dataloader=options.pop("train_dataloader", DATA),
        train_cfg=options.pop("train_cfg", dict(by_epoch=True, max_epochs=epochs)),
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.01), accumulative_counts=accumulate),
        default_hooks=options.pop("default_hooks", saving),
        param_scheduler=options.pop("param_scheduler", SCHEDULE),
        custom_hooks=[SeedByIterHook(), *hooks],
        randomness=dict(seed=0),
        experiment_name=str(os.urandom(4).hex()),
        **options,
    )


def test_every_default_hook_can_be_switched_off(tmp_path):
    own = dict(whole_steps="WholeStepsHook", finite_loss="FiniteLossHook", score_names="ScoreNamesHook")
    of_mmengine = dict(checkpoint="KeepingCheckpointHook", timer="IterTimerHook", logger="LoggerHook")
    for name, kind in (own | of_mmengine | dict(token_visualization="TokenVisualizationHook")).items():
        built = runner(tmp_path, default_hooks={"token_visualization": dict(type="TokenVisualizationHook"), name: None})
        kinds = {type(hook).__name__ for hook in built.hooks}
        assert kind not in kinds and len(kinds & {*own.values(), *of_mmengine.values()}) >= 5, name


KILLED = """
import os, signal, sys
import test_runner
from mmengine.hooks import Hook
class Kill(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)
test_runner.runner(sys.argv[1], hooks=[Kill()], accumulate=int(sys.argv[2])).train()
"""


@pytest.mark.parametrize("accumulate", [1, 2])  # an epoch has three batches
def test_killed_and_resumed_equals_uninterrupted(tmp_path, accumulate):
    whole = runner(tmp_path / "whole", accumulate=accumulate)
    whole.train()
    (tmp_path / "killed.py").write_text(KILLED)
    killed = run_tool(
        tmp_path / "killed.py", tmp_path / "cut", accumulate, env=dict(PYTHONPATH=os.path.dirname(__file__))
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert latest_checkpoint(tmp_path / "cut").endswith("epoch_2.pth")
    again = runner(tmp_path / "cut", resume=True, accumulate=accumulate)
    again.train()
    assert again.epoch == 4
    for a, b in zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


class NoisyData(Data):
    def __getitem__(self, i):
        return dict(inputs=torch.rand(4) + np.random.rand() + random.random() + i)


@pytest.mark.parametrize("sampler", ["InfiniteSampler", "DefaultSampler"])
def test_augmentations_of_a_resumed_run_counted_in_iterations_are_those_of_a_whole_one(tmp_path, monkeypatch, sampler):
    monkeypatch.setattr("time.sleep", lambda _: None)  # MMEngine's pause between passes over the data

    def trained(folder, iterations, resume=False):
        made = runner(
            tmp_path / folder,
            train_dataloader=dict(dataset=NoisyData(), batch_size=2, sampler=dict(type=sampler, shuffle=True)),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=iterations),
            default_hooks=dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2), logger=None),
            param_scheduler=None,
            resume=resume,
        )
        made.train()
        return made.model.state_dict()

    whole = trained("whole", 6)
    trained("cut", 4)
    torch.rand(7)  # a new process does not go on with the random numbers of the old one
    for name, value in trained("cut", 6, resume=True).items():
        assert torch.equal(value, whole[name]), name


def test_no_step_takes_batches_of_two_epochs(tmp_path, monkeypatch):
    step, scale, said = OptimWrapper.step, OptimWrapper.scale_loss, []

    def scaled(self, loss):
        said.append(float(scale(self, loss) / loss))
        return scale(self, loss)

    def stepped(self, **kwargs):
        said.append("step")
        step(self, **kwargs)

    monkeypatch.setattr(OptimWrapper, "scale_loss", scaled)
    monkeypatch.setattr(OptimWrapper, "step", stepped)
    runner(tmp_path, epochs=2, accumulate=2).train()
    assert said == [0.5, 0.5, "step", 1.0, "step"] * 2


def test_failure_while_saving_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    first = runner(tmp_path, epochs=1)
    first.train()
    old = (tmp_path / "epoch_1.pth").read_bytes()

    def fail(obj, f, *args, **kwargs):
        f.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        runner(tmp_path, epochs=3, resume=True).train()
    monkeypatch.undo()
    assert (tmp_path / "epoch_1.pth").read_bytes() == old
    assert latest_checkpoint(tmp_path) == str(tmp_path / "epoch_1.pth")
    assert not list(tmp_path.glob("*part*")) and not (tmp_path / "epoch_2.pth").exists()
    runner(tmp_path, epochs=3, resume=True).train()
    assert [p.name for p in tmp_path.glob("*.pth")] == ["epoch_3.pth"]


def test_latest_checkpoint_survives_a_torn_pointer_and_a_moved_folder(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    (tmp_path / "epoch_1.pth").touch()
    os.utime(tmp_path / "epoch_1.pth", (1, 1))
    (tmp_path / "epoch_2.pth").touch()
    (tmp_path / "last_checkpoint").write_text("")
    assert latest_checkpoint(tmp_path) == str(tmp_path / "epoch_2.pth")
    (tmp_path / "last_checkpoint").write_text("/elsewhere/epoch_1.pth")
    assert latest_checkpoint(tmp_path) == str(tmp_path / "epoch_1.pth")


def test_resume_refuses_weights_and_other_models(tmp_path):
    first = runner(tmp_path / "a", epochs=1)
    first.train()
    file = tmp_path / "a" / "epoch_1.pth"
    data = torch.load(file, weights_only=False)
    torch.save(dict(state_dict=data["state_dict"]), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="weights only"):
        runner(tmp_path / "b", resume=True, load_from=str(tmp_path / "weights.pth")).train()
    data["state_dict"].pop("fc.0.bias")
    torch.save(data, tmp_path / "less.pth")
    with pytest.raises(CheckpointError, match="1 tensor missing in it"):
        runner(tmp_path / "b", resume=True, load_from=str(tmp_path / "less.pth")).train()
    runner(tmp_path / "c", epochs=1, load_from=str(tmp_path / "weights.pth")).train()


def test_config_text_in_a_checkpoint_is_not_run(tmp_path):
    runner(tmp_path, epochs=1).train()
    data = torch.load(tmp_path / "epoch_1.pth", weights_only=False)
    data["meta"]["config"] = f"open({str(tmp_path / 'ran')!r}, 'w')"
    torch.save(data, tmp_path / "hostile.pth")
    runner(tmp_path, epochs=2, resume=True, load_from=str(tmp_path / "hostile.pth")).train()
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="checks the fallback of machines without a GPU")
def test_mixed_precision_falls_back_to_float32(tmp_path):
    chosen = runner(tmp_path).build_optim_wrapper(
        dict(
            type="AmpOptimWrapper", loss_scale=dict(init_scale=512), dtype="float16", optimizer=dict(type="SGD", lr=1.0)
        )
    )
    assert type(chosen).__name__ == "OptimWrapper"
