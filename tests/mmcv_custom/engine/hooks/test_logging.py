from types import SimpleNamespace

import torch
from mmengine.runner import IterBasedTrainLoop

from mmcv_custom import ProgressBarHook, ReduceLogsHook, reduce_log_vars


def test_logs_of_one_process_pass():
    logs = dict(loss=torch.tensor(2.0), acc=torch.tensor([3.0]))
    assert reduce_log_vars(logs) == logs
    ReduceLogsHook().after_train_iter(None, 0, outputs=logs)
    assert logs["loss"] == 2


class Iterations(IterBasedTrainLoop):
    def __init__(self):  # a loop that is never run
        pass


def test_progress_bar_is_for_terminals_only(monkeypatch, capsys):
    runner = SimpleNamespace(epoch=0, max_epochs=2, train_loop=None, train_dataloader=[0, 1], val_dataloader=[0])
    for terminal in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal)
        bar = ProgressBarHook()
        bar.before_train_epoch(runner)
        for i in range(2):
            bar.after_train_iter(runner, i, outputs=dict(loss=torch.tensor(0.5)))
        bar.after_train_epoch(runner)
        bar.before_val_epoch(runner)
        bar.after_val_iter(runner, 0)
        bar.after_val_epoch(runner)
        assert ("epoch 1/2" in capsys.readouterr().err) == terminal


def test_a_training_counted_in_iterations_has_one_bar_that_outlives_its_validations(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    runner = SimpleNamespace(
        iter=4, max_iters=8, max_epochs=1, epoch=0, train_loop=Iterations(), train_dataloader=[0], val_dataloader=[0]
    )
    bar = ProgressBarHook()
    bar.before_train_epoch(runner)
    training = bar.bars[0]
    for i in range(4, 8):
        bar.after_train_iter(runner, i, outputs=dict(loss=torch.tensor(0.5)))
        if i == 5:
            bar.before_val_epoch(runner)
            bar.after_val_iter(runner, 0)
            bar.after_val_epoch(runner)
    assert (training.n, training.total) == (8, 8)
    bar.after_train_epoch(runner)
    assert bar.bars == []
    said = capsys.readouterr().err
    assert "training" in said and "4/8" in said and "validation" in said and "epoch" not in said
