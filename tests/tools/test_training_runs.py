"""Small runs of the quickstart configs through the launchers.

Two processes train like one, and a killed run resumes as if it had not been killed.
"""

import json
import socket
import time
from pathlib import Path

import pytest
import torch
from scripts import Tool, run_tool

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "configs" / "quickstart"


def run(*command, cwd):
    done = run_tool(*command, cwd=cwd, code=0)
    return done.stdout + done.stderr


def run_in_two_processes(*command, cwd):
    """Run a tool in two processes as a launcher would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=free.getsockname()[1], WORLD_SIZE=2)
    ranks = [
        Tool(*command, "--launcher", "pytorch", cwd=cwd, env=dict(meeting, RANK=rank, LOCAL_RANK=rank))
        for rank in range(2)
    ]
    for done in [rank.wait() for rank in ranks]:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return "".join(rank.said() for rank in ranks)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Make a folder with 12 digit scenes in the layout of the configs."""
    folder = tmp_path_factory.mktemp("project")
    run("tools/dataset_converters/digit_scenes.py", "data/digit_scenes", "--train", 12, "--val", 2, cwd=folder)
    return folder


def options(epochs, *more):
    return [
        "--cfg-options",
        f"train_cfg.max_epochs={epochs}",
        f"train_cfg.val_interval={epochs}",
        "default_hooks.logger.interval=1",
        "load_from=None",
        "train_dataloader.dataset.pipeline.2.scale=(128,128)",  # a quarter of the pixels
        "val_dataloader.dataset.pipeline.1.scale=(128,128)",
        "train_dataloader.dataset.indices=12",
        "train_dataloader.batch_size=4",
        "train_dataloader.num_workers=0",
        "auto_scale_lr.base_batch_size=4",
        *more,
    ]


def logged(work_dir):
    """Return the training scalars of a run, one dict per step."""
    files = Path(work_dir).rglob("scalars.json")
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [line for line in lines if "loss" in line]


@pytest.mark.parametrize("name", ["digits_vit-adapter-nano", "baselines/digits_cropr-adapter-nano"])
def test_two_processes_give_the_losses_of_one_with_the_same_total_batch(project, name):
    config = QUICKSTART / f"{name}.py"
    run("tools/train.py", config, "--work-dir", f"one/{name}", *options(2), cwd=project)
    half = options(2, "train_dataloader.batch_size=2")
    said = run_in_two_processes("tools/train.py", config, "--work-dir", f"two/{name}", *half, cwd=project)
    assert "total batch" not in said
    one, two = logged(project / "one" / name), logged(project / "two" / name)
    assert len(one) == len(two) == 6
    names = [name for name in one[0] if "loss" in name]
    assert {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask"} <= set(names)
    assert ("loss_aux.3" in names) == ("cropr" in name)
    for a, b in zip(one, two, strict=True):
        for name in names:
            # Sums are added in another order. After a few steps their rounding may change the match of a proposal,
            # which changes single losses but hardly their sum.
            late = a["step"] > 3
            rel = 2e-4 if not late else 2e-3 if name == "loss" else 3e-2
            assert b[name] == pytest.approx(a[name], rel=rel, abs=1e-4), (a["step"], name)


def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(project):
    """Kill the training of the pruned model with SIGKILL; its Gumbel noise must not change either."""
    config = QUICKSTART / "digits_svit-adapter-nano.py"
    command = ["tools/train.py", config]
    run(*command, "--work-dir", "whole", *options(3), cwd=project)
    killed = Tool(*command, "--work-dir", "killed", *options(3), cwd=project)
    first = project / "killed" / "epoch_1.pth"
    while not first.exists():
        assert killed.process.exitcode is None, "training ended before it could be killed: " + killed.said()
        time.sleep(0.05)
    killed.kill()
    assert not (project / "killed" / "epoch_3.pth").exists()
    run(*command, "--work-dir", "killed", "--resume", *options(3), cwd=project)
    whole, resumed = (
        torch.load(project / name / "epoch_3.pth", weights_only=False)["state_dict"] for name in ("whole", "killed")
    )
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_a_total_batch_other_than_the_recipes_is_reported(project):
    said = run(
        "tools/train.py",
        QUICKSTART / "digits_vit-adapter-nano.py",
        "--work-dir",
        "said",
        *options(
            1, "auto_scale_lr.base_batch_size=8", "train_dataloader.batch_size=2", "train_dataloader.dataset.indices=2"
        ),
        cwd=project,
    )
    assert "batch" in said and "2" in said and "8" in said and "auto-scale-lr" in said
