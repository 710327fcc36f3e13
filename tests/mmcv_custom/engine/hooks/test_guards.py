"""Trainings that cannot succeed end with one sentence, and their last good checkpoint stays."""

import glob

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EarlyStoppingHook
from mmengine.model import BaseModel
from torch import nn

from mmcv_custom import ConfigError, DataError, FiniteLossHook, PruningRunner, read_checkpoint
from mmcv_custom.engine.hooks.guards import score_names


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 1)

    def forward(self, inputs, mode="tensor"):
        loss = self.fc(torch.stack(inputs)).mean()
        return dict(loss=loss) if mode == "loss" else list(inputs)


class Data(torch.utils.data.Dataset):
    def __init__(self, size=4, broken=()):
        self.size, self.broken = size, broken

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        return dict(inputs=torch.full((4,), float("nan") if i in self.broken else 1.0))


class Scores(BaseMetric):
    default_prefix = "toy"

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(mAP=0.5)


def loader(batch=1, **options):
    drop_last = options.pop("drop_last", False)
    sampler = dict(type="DefaultSampler", shuffle=False)
    return dict(dataset=Data(**options), batch_size=batch, drop_last=drop_last, sampler=sampler)


def runner(folder, data=None, epochs=3, val=None, hooks=(), checkpoint=None, **options):
    validation = {} if val is None else dict(val_dataloader=loader(), val_cfg={}, val_evaluator=val)
    return PruningRunner(
        model=Toy(),
        work_dir=str(folder),
        train_dataloader=data or loader(),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
        default_hooks=dict(
            checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=1, **(checkpoint or {})), logger=None
        ),
        custom_hooks=list(hooks),
        experiment_name=folder.name,
        **validation,
        **options,
    )


class Poison(FiniteLossHook):
    """Make a weight infinite after an epoch."""

    priority = "VERY_HIGH"

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        pass

    def after_train_epoch(self, runner):
        if runner.epoch == 1:
            runner.model.fc.weight.data[0, 0] = float("inf")


def test_a_loss_that_stays_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    class Later(Data):
        def __getitem__(self, i):
            self.served = getattr(self, "served", 0) + 1
            return dict(inputs=torch.full((4,), float("nan") if self.served > 4 else 1.0))

    data = dict(loader(), dataset=Later())
    with pytest.raises(
        ConfigError, match=r"stopped after iteration 8: weights .* not finite.*epoch_1.pth is from before"
    ):
        runner(tmp_path, data).train()
    (kept,) = glob.glob(f"{tmp_path}/*.pth")
    weights = read_checkpoint(kept)["state_dict"]
    assert kept.endswith("epoch_1.pth") and all(torch.isfinite(w).all() for w in weights.values())


def test_a_long_epoch_is_not_waited_for(tmp_path):
    with pytest.raises(ConfigError, match=r"iteration 20: the loss has not been finite.*no checkpoint was"):
        runner(tmp_path, loader(size=100, broken=range(5, 100))).train()


def test_weights_that_break_are_not_saved(tmp_path):
    with pytest.raises(ConfigError, match="weights of the model are not finite"):
        runner(tmp_path, hooks=[Poison()]).train()
    assert [path[-11:] for path in glob.glob(f"{tmp_path}/*.pth")] == ["epoch_1.pth"]


def test_single_broken_losses_pass():
    hook, run = FiniteLossHook(steps=2), type("Run", (), dict(iter=0))()
    for run.iter in range(8):
        hook.after_train_iter(run, 0, outputs=dict(loss=torch.tensor(float("nan") if run.iter % 2 else 1.0)))


def test_a_loader_without_a_batch_is_refused(tmp_path):
    message = "train_dataloader gives no batch: the 4 samples .* less than one batch of 5"
    with pytest.raises(DataError, match=message):
        runner(tmp_path, loader(5, drop_last=True)).train()
    by_iteration = dict(train_cfg=dict(by_epoch=False, max_iters=2))
    with pytest.raises(DataError, match=message):
        PruningRunner(
            model=Toy(),
            work_dir=str(tmp_path),
            train_dataloader=loader(5, drop_last=True),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
            experiment_name="iterations",
            **by_iteration,
        ).train()


@pytest.mark.parametrize("name", ["mAP", "toy/map", "coco/bbox_mAP"])
def test_a_score_of_an_unknown_evaluator_is_refused_after_its_first_evaluation(tmp_path, name):
    with pytest.raises(ConfigError, match=f"save_best is {name}, which no evaluator computes: .*toy/mAP"):
        runner(tmp_path, val=[Scores()], checkpoint=dict(save_best=name)).train()
    assert (tmp_path / "epoch_1.pth").exists()


def test_a_monitor_that_nothing_computes_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="EarlyStoppingHook.monitor is acc, which no evaluator computes"):
        runner(tmp_path, val=[Scores()], hooks=[EarlyStoppingHook("acc")]).train()


def test_the_right_name_works(tmp_path):
    runner(tmp_path, val=[Scores()], checkpoint=dict(save_best="toy/mAP"), epochs=1).train()
    assert (tmp_path / "best_toy_mAP_epoch_1.pth").exists()


def test_the_scores_of_the_toolboxes_are_known_before_training(tmp_path):
    from mmdet.evaluation import CocoMetric
    from mmpretrain.evaluation import Accuracy
    from mmseg.evaluation import IoUMetric

    assert "coco/segm_mAP_50" in score_names([CocoMetric(metric=["bbox", "segm"])])
    assert score_names([Accuracy(topk=(1, 5)), IoUMetric()]) == [
        "accuracy/top1",
        "accuracy/top5",
        "aAcc",
        "mIoU",
        "mAcc",
    ]
    assert score_names([IoUMetric(), Scores()]) is None
    with pytest.raises(ConfigError, match="save_best is IoU_mean, which.* can be aAcc, mIoU, mAcc"):
        runner(tmp_path, val=[IoUMetric()], checkpoint=dict(save_best="IoU_mean", rule="greater")).train()
    assert not glob.glob(f"{tmp_path}/*.pth")
