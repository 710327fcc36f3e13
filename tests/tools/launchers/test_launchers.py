"""The launchers: commands, messages, and two processes on CPU that train and test."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scripts import Tool, load_script

ROOT = Path(__file__).resolve().parents[3]
SH = shutil.which("dash") or "sh"
ENV = dict(os.environ, PYTHON=sys.executable, PYTHONPATH=f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

TOY = """
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS


@MODELS.register_module()
class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.SyncBatchNorm(4), torch.nn.Linear(4, 1))

    def forward(self, inputs, mode="tensor"):
        out = self.fc(torch.stack(list(inputs)))
        return dict(loss=out.square().mean()) if mode == "loss" else list(out)


@DATASETS.register_module()
class Eight(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return dict(inputs=torch.full((4,), float(i)))


@METRICS.register_module()
class Count(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [s.item() for s in data_samples]

    def compute_metrics(self, results):
        return dict(count=len(results))
"""
CONFIG = """
custom_imports = dict(imports=['mmcv_custom', 'toy'])
model = dict(type='Toy')
_loader = dict(batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(type='Eight'))
train_dataloader = dict(batch_size=2, sampler=dict(type='DefaultSampler', shuffle=True), dataset=dict(type='Eight'))
test_dataloader = dict(batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(type='Eight'))
train_cfg = dict(by_epoch=True, max_epochs=1)
test_cfg = dict()
test_evaluator = dict(type='Count')
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=dict(init_scale=512), optimizer=dict(type='SGD', lr=0.01))
auto_scale_lr = dict(enable=False, base_batch_size=16)
custom_hooks = [dict(type='SeedByIterHook'), dict(type='ReduceLogsHook')]
sync_bn = 'torch'
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "toy.py").write_text(TOY)
    (tmp_path / "toy_config.py").write_text(CONFIG)
    return tmp_path


def run(*command, cwd, **env):
    env = {k: v for k, v in dict(ENV, **env).items() if v is not None}
    env["PYTHONPATH"] = f"{cwd}{os.pathsep}{env['PYTHONPATH']}"
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def recorder(tmp_path):
    """Write a fake interpreter: it reports 2 GPUs and 8 cores, and prints the command it should run."""
    script = tmp_path / "recorder"
    script.write_text(
        '#!/bin/sh\nif [ "$1" = -c ]; then echo "${FAKE_GPUS:-2} 8"; else echo "OMP=${OMP_NUM_THREADS:-} $*"; fi\n'
    )
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(
    "name", ["dist_run", "dist_train", "dist_train_load", "dist_test", "slurm_run", "slurm_train", "slurm_test"]
)
def test_scripts_are_posix(name):
    assert subprocess.run([SH, "-n", ROOT / "tools/launchers" / f"{name}.sh"]).returncode == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("dist_train.sh",), "Usage"),
        (("dist_train.sh", "toy_config.py", "0"), "number of processes"),
        (("dist_train.sh", "toy_config.py", "two"), "number of processes"),
        (("dist_train.sh", "toy_config.py", "3"), "GPUS is 3 and this machine has 2"),
        (("tools/slurm_train.sh", "p", "j"), "Usage"),
    ],
)
def test_mistakes_end_with_one_sentence(project, recorder, arguments, message):
    code, out = run(SH, ROOT / arguments[0], *arguments[1:], cwd=project, PYTHON=recorder)
    assert code == 2 and message in out and len(out.strip().splitlines()) == 1


@pytest.mark.parametrize("folder", ["", "tools/"])
def test_commands(project, recorder, folder):
    script = f"{ROOT}/{folder}dist_train.sh"
    _, out = run(SH, script, "toy_config.py", "2", "--amp", cwd=project, PYTHON=recorder, PORT=None)
    assert out.strip().endswith(f"--nproc-per-node 2 {ROOT}/tools/train.py toy_config.py --amp --launcher pytorch")
    assert "tools/launchers/torchrun.py --standalone" in out
    _, out = run(SH, script, "quickstart/digits_vit-adapter-t", "1", cwd=project, PYTHON=recorder, PORT=None)
    assert "tools/train.py quickstart/digits_vit-adapter-t --launcher" in out  # a name, which the tool looks up
    _, out = run(
        SH,
        script,
        "toy_config.py",
        "2",
        cwd=project,
        PYTHON=recorder,
        NNODES="2",
        NODE_RANK="1",
        MASTER_ADDR="10.0.0.1",
        PORT="29511",
    )
    assert "--nnodes 2 --node-rank 1 --master-addr 10.0.0.1 --master-port 29511 --nproc-per-node 2" in out
    (project / "w.pth").touch()
    _, out = run(
        SH,
        f"{ROOT}/{folder}dist_test.sh",
        "toy_config.py",
        "w.pth",
        "2",
        "--eval",
        "bbox",
        "segm",
        cwd=project,
        PYTHON=recorder,
        FAKE_GPUS="0",
        OMP_NUM_THREADS=None,
    )
    assert "OMP=4" in out
    assert "test.py toy_config.py w.pth --eval bbox segm --launcher pytorch" in out


def test_training_from_weights(project, recorder):
    command = (SH, ROOT / "dist_train_load.sh", "toy_config.py", "out", "w.pth", "--amp")
    _, out = run(*command, cwd=project, PYTHON=recorder, PORT=None, GPUS="2")
    assert "--nproc-per-node 2" in out and "toy_config.py --work-dir out --load-from w.pth --amp --launcher" in out
    code, out = run(*command[:4], cwd=project, PYTHON=recorder)
    assert code == 2 and out.startswith("Usage: sh dist_train_load.sh CONFIG WORK_DIR CHECKPOINT")


def test_relative_link_from_elsewhere(project, recorder):
    (project / "bin").mkdir()
    (project / "bin" / "go.sh").symlink_to(os.path.relpath(ROOT / "dist_train.sh", project / "bin"))
    _, out = run(SH, "bin/go.sh", "toy_config.py", "1", cwd=project, PYTHON=recorder)
    assert "tools/train.py toy_config.py" in out


@pytest.mark.parametrize(
    "variables, expected",
    [
        (dict(GPUS="4"), "--ntasks=4 --cpus-per-task=2 --kill-on-bad-exit=1 --gres=gpu:4 --ntasks-per-node=4 "),
        (dict(GPUS="16", GPUS_PER_NODE="4", CPUS_PER_TASK="5"), "--ntasks=16 --cpus-per-task=5 --kill-on-bad-exit=1 "),
        (dict(PROCESSES="2"), "--ntasks=2 --cpus-per-task=1 --kill-on-bad-exit=1 --quotes --mem=1G "),
        ({}, "--ntasks=1 --cpus-per-task=1 --kill-on-bad-exit=1 --quotes --mem=1G "),
        (dict(GPUS="0"), "must be numbers, at least 1, got '0'"),
        (dict(PROCESSES="two"), "must be numbers, at least 1, got 'two'"),
    ],
)
def test_slurm_command(project, variables, expected):
    (project / "srun").write_text('#!/bin/sh\necho "$*"\n')
    (project / "srun").chmod(0o755)
    command = (SH, ROOT / "tools/slurm_test.sh", "part", "job", "c.py", "w.pth", "--eval", "bbox")
    path = f"{project}{os.pathsep}{os.environ['PATH']}"
    unset = dict(GPUS=None, GPUS_PER_NODE=None, PROCESSES=None, CPUS_PER_TASK=None)
    code, out = run(*command, cwd=project, PATH=path, SRUN_ARGS="--quotes --mem=1G", **(unset | variables))
    assert expected in out and ("--gres" in out) == ("GPUS" in variables and code == 0)
    if code == 0:
        assert "-p part --job-name=job " in out and "--quotes --mem=1G " in out
        assert "tools/test.py c.py w.pth --eval bbox --launcher slurm\n" in out
    else:
        assert code == 2 and len(out.splitlines()) == 1


@pytest.mark.parametrize(
    ("statuses", "ends_with", "said"),
    [
        ({0: 2}, 2, ""),
        ({0: -15, 1: 2}, 2, ""),
        ({0: 1, 1: 2}, 2, ""),
        ({0: 1, 1: -9}, 137, "rank 1 died (signal 9: SIGKILL, which the system sends when memory runs out); the other"),
        ({0: -15, 1: -11, 2: 1}, 139, "rank 1 died (signal 11: SIGSEGV); the other processes were stopped"),
        ({0: -15, 3: 1}, 1, "rank 3 ended with exit status 1; its own message is above"),
        ({0: -15, 1: -15}, 143, "rank 0 died (signal 15: SIGTERM)"),
    ],
)
def test_the_process_that_failed_ends_torchrun(monkeypatch, capsys, statuses, ends_with, said):
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    torchrun = load_script("tools/launchers/torchrun.py")

    def fail(_):
        raise ChildFailedError(
            "train.py", {rank: ProcessFailure(rank, 1, n, "no file") for rank, n in statuses.items()}
        )

    monkeypatch.setattr(torchrun, "run", fail)
    monkeypatch.setattr(sys, "argv", ["torchrun.py", "train.py"])
    with pytest.raises(SystemExit) as end:
        torchrun.main()
    assert end.value.code == ends_with and said in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_sentence(monkeypatch, capsys):
    torchrun = load_script("tools/launchers/torchrun.py")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        where = ["--nnodes", "1", "--node-rank", "0", "--master-addr", "127.0.0.1", "--master-port", str(port)]
        monkeypatch.setattr(sys, "argv", ["torchrun.py", *where, "--nproc-per-node", "1", "train.py"])
        with pytest.raises(SystemExit) as end:
            torchrun.main()
    said = capsys.readouterr().err.splitlines()[-1]
    assert end.value.code == 2 and f"cannot meet at 127.0.0.1:{port} (" in said and "set PORT to a free port" in said


def test_a_killed_process_ends_the_others(tmp_path):
    (tmp_path / "train.py").write_text(
        "import os, signal, sys, time\n"
        "if os.environ['RANK'] == '1':\n"
        "    while not os.path.exists('0'): time.sleep(0.05)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "open('part', 'w').write(str(os.getpid()))\n"
        "os.rename('part', '0')\n"
        "time.sleep(300)\n"
    )
    launcher = ROOT / "tools/launchers/torchrun.py"
    options = ("--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2", "train.py")
    code, out = run(sys.executable, launcher, *options, cwd=tmp_path)
    assert code == 137 and "rank 1 died (signal 9: SIGKILL" in out and "Traceback" not in out, out
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "0").read_text()), 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="checks machines without a GPU")
def test_two_processes_train_and_test_on_cpu(project):
    code, out = run(SH, ROOT / "dist_train.sh", "toy_config.py", "2", cwd=project, PORT=None)
    assert code == 0, out
    for sentence in (
        "total batch is 4 = 2 x 2 processes, the recipe's is 16",
        "SyncBN trains as BatchNorm",
        "mixed precision is off",
    ):
        assert sentence in out
    checkpoint = project / "work_dirs" / "toy_config" / "epoch_1.pth"
    command = (SH, ROOT / "dist_test.sh", "toy_config.py", checkpoint, "2", "--out", "r.pkl")
    code, out = run(*command, cwd=project, PORT=None)
    assert code == 0 and "count: 8" in out, out
    assert (project / "r.pkl").exists()


@pytest.mark.parametrize(
    "tool, arguments, message",
    [
        ("train", ("none.py",), "config none.py does not exist"),
        ("train", ("toy_config.py", "--load-from", "none.pth"), "none.pth does not exist"),
        ("train", ("toy_config.py", "--cfg-options", "nonsense"), "write key=value"),
        ("train", ("toy_config.py", "--cfg-options", "train_cfg.max_epochs.x=1"), "does not fit"),
        ("train", ("toy_config.py", "--cfg-options", "train_dataloder.batch_size=1"), "did you mean train_dataloader"),
        ("test", ("toy_config.py", "none.pth"), "none.pth does not exist"),
        ("test", ("toy_config.py", "toy.py"), "not a checkpoint that can be read"),
        ("test", ("toy_config.py", "toy.py", "--eval", "bbox"), "has no metric to choose"),
        ("test", ("toy_config.py", "toy.py", "--out", "r.txt"), "written as .pkl"),
    ],
)
def test_tools_end_on_mistakes_without_a_traceback(project, tool, arguments, message):
    tool = Tool(f"tools/{tool}.py", *arguments, cwd=project, env=dict(PYTHONPATH=project))
    code = tool.wait().returncode
    assert code == 2 and message in tool.said() and "Traceback" not in tool.said(), tool.said()


def test_gpu_check_names_tools_and_configs_that_exist(tmp_path):
    (tmp_path / "python").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "python").chmod(0o755)
    done = subprocess.run(
        [SH, str(ROOT / "tools/benchmarks/gpu_check.sh")],
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHON=str(tmp_path / "python")),
    )
    assert done.returncode == 0, done.stderr
    commands = [line.split() for line in done.stdout.splitlines()]
    written = [words[words.index("--json") + 1] for words in commands if "--json" in words]
    assert len(written) > 30 and len({*written}) == len(written)
    named = {word for words in commands for word in words if word.endswith(".py")}
    assert all((ROOT / word).is_file() for word in named if not word.startswith("work_dirs/"))
    assert {"speed_test.py", "configs/cropr/ade20k/vit-l-cropr_linear_ade20k-512_64e.py"} <= named
