"""The ratio loss over one process and over all, and the collection of reported losses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from token_pruning import collect_losses, ratio_loss
from token_pruning.losses import report_losses

ROOT = Path(__file__).resolve().parents[2]
GATES = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))


def one_of_two(rank, folder):
    """Compute the loss of half of the batch, with gradients averaged as in data parallel training."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    weight = torch.ones(6, requires_grad=True)
    loss = ratio_loss(GATES[rank::2] * weight, 0.3, all_processes=True)
    loss.backward()
    dist.all_reduce(weight.grad)
    torch.save((loss.detach(), weight.grad / 2), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_over_all_processes_it_is_the_loss_of_the_whole_batch(tmp_path):
    env = dict(os.environ, PYTHONPATH=f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    processes = [subprocess.Popen([sys.executable, __file__, str(rank), tmp_path], env=env) for rank in range(2)]
    assert [process.wait(timeout=600) for process in processes] == [0, 0]
    weight = torch.ones(6, requires_grad=True)
    wanted = ratio_loss(GATES * weight, 0.3)
    wanted.backward()
    for rank in range(2):
        loss, grad = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(loss, wanted.detach())
        torch.testing.assert_close(grad, weight.grad)


def test_a_warning_tells_that_losses_are_not_collected():
    with pytest.warns(UserWarning, match="train nothing"):
        report_losses({"loss_ratio": torch.tensor(1.0)})


def test_without_processes_the_switch_changes_nothing():
    assert ratio_loss(GATES, 0.3, all_processes=True) == ratio_loss(GATES, 0.3)


def test_per_image_is_stricter_than_over_the_batch():
    gate = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert ratio_loss(gate, 0.5) == 0 and ratio_loss(gate, 0.5, per_image=True) == 0.25


def test_collectors_nest_and_end_with_their_body():
    with collect_losses() as outer:
        report_losses({"loss_ratio": torch.tensor(1.0), "keep": torch.tensor(0.5)})
        with collect_losses() as inner:
            report_losses({"loss_ratio": torch.tensor(2.0), "keep": torch.tensor(0.7)})
    report_losses({"keep": torch.tensor(0.9)})
    assert inner["loss_ratio"] == 2 and outer["loss_ratio"] == 3 and outer["keep"] == pytest.approx(0.7)


if __name__ == "__main__":
    one_of_two(int(sys.argv[1]), sys.argv[2])
