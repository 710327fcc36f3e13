"""The Slurm launcher on a real cluster of one node without GPUs: two jobs at a time train a nano classifier."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import slurm
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "configs/deit/digits/deit-nano_digits.py"
ONE_STEP = [
    "train_cfg.max_epochs=1",
    "train_cfg.val_interval=2",
    "default_hooks.token_visualization=None",
    "visualizer.vis_backends=[]",
    "train_dataloader.batch_size=5",
    "default_hooks.logger.interval=1",
    *(f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")),
]

pytestmark = [
    pytest.mark.skipif(
        bool(slurm.missing_programs()),
        reason=f"needs Slurm on this machine, without {', '.join(slurm.missing_programs())} (Debian: apt-get install "
        "slurmctld slurmd slurm-client munge)",
    ),
    pytest.mark.skipif(torch.cuda.is_available(), reason="checks machines without a GPU"),
]


@pytest.fixture
def project(tmp_path):
    """Return a folder with ten images of digits to train on and ten to evaluate, one of each class."""
    for split in ("train", "val"):
        for label in range(10):
            folder = tmp_path / "data/digits" / split / str(label)
            folder.mkdir(parents=True)
            Image.fromarray(np.full((32, 32, 3), 20 * label, np.uint8)).save(folder / "a.png")
    return tmp_path


def start(env, project, name, processes):
    script = [shutil.which("dash") or "sh", str(ROOT / "tools/slurm_train.sh"), "all", name, str(CONFIG)]
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    unset = ("GPUS", "GPUS_PER_NODE", "CPUS_PER_TASK", "SRUN_ARGS", "MASTER_ADDR", "MASTER_PORT")
    env = {key: value for key, value in env.items() if key not in unset}
    return subprocess.Popen(
        [*script, "--work-dir", name, "--cfg-options", *ONE_STEP],
        cwd=project,
        env=env | dict(PYTHON=sys.executable, PYTHONPATH=path, PROCESSES=str(processes)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def running(env):
    jobs = ["squeue", "-h", "-t", "running", "-o", "%i"]
    return len(subprocess.run(jobs, env=env, capture_output=True, text=True).stdout.split())


def test_two_jobs_train_on_one_node_side_by_side(project, tmp_path_factory):
    """Each job's main process listens on a port of its own; on one port, one of the jobs would fail or wait."""
    wanted = dict(first=2, second=1)
    with slurm.cluster(tmp_path_factory.mktemp("cluster"), cpus=3) as env:
        jobs = {name: start(env, project, name, processes) for name, processes in wanted.items()}
        most = 0
        while most < 2 and all(job.poll() is None for job in jobs.values()):
            most = max(most, running(env))
            time.sleep(0.2)
        for name, job in jobs.items():
            said, _ = job.communicate(timeout=400)
            assert job.returncode == 0, said
            assert f"{wanted[name]} process(es) without a GPU" in said
            steps = 10 // (5 * wanted[name])
            assert re.search(rf"Epoch\(train\) +\[1\]\[{steps}/{steps}\].* loss: [0-9.]+", said), said
            assert (project / name / "epoch_1.pth").exists()
    assert most == 2
