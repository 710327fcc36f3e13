"""Failures from outside the program end it with one sentence: full disks, killed workers, lost processes."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from scripts import ROOT, run_tool

from mmcv_custom.cli import failures, launch

KILLED = """
import os, signal
import torch
from mmcv_custom.cli.launch import run

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        if i == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.tensor(i)

run(lambda: list(torch.utils.data.DataLoader(Data(), num_workers=2)))
"""


# Batches that do not fit into a pipe: an interrupted worker waits until they are read.
LEFT = """
import os, signal, time
import torch
from mmcv_custom.cli.launch import run

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 100

    def __getitem__(self, i):
        return b"x" * 2**20

def main():
    batches = iter(torch.utils.data.DataLoader(Data(), batch_size=None, num_workers=2))
    next(batches)
    print(*(worker.pid for worker in batches._workers), flush=True)
    for worker in batches._workers:
        os.kill(worker.pid, signal.SIGINT)
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)

run(main)
"""


def ending(capsys, error):
    """Return the status and the message of a program that raises ``error``."""

    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        launch.run(main)
    said = capsys.readouterr().err.strip()
    assert "\n" not in said, said
    return end.value.code, said


def test_a_killed_data_loader_worker(tmp_path):
    (tmp_path / "train.py").write_text(KILLED)
    done = run_tool(tmp_path / "train.py", code=2)
    assert done.stderr.startswith("train.py: data-loader worker ") and " died (" in done.stderr, done.stderr
    assert "memory" in done.stderr and "--resume" in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not end a process with its parent")
def test_data_loader_workers_end_with_a_killed_process(tmp_path):
    (tmp_path / "train.py").write_text(LEFT)
    command = [sys.executable, tmp_path / "train.py"]
    with (tmp_path / "said").open("w") as said:  # a pipe would wait for the workers
        done = subprocess.run(command, env=dict(os.environ, PYTHONPATH=str(ROOT)), stdout=said)
    workers = [Path(f"/proc/{pid}") for pid in (tmp_path / "said").read_text().split()]
    assert done.returncode == -signal.SIGKILL and len(workers) == 2
    end = time.monotonic() + 60
    while any(map(Path.exists, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(Path.exists, workers))


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that", "worker 7 died (bus error)"),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "worker 7, 8 died (it was"),
        (
            "DataLoader worker (pid 7) is killed by signal: Segmentation fault. ",
            "(Segmentation fault): its own",
        ),
    ],
)
def test_sentences_of_workers(text, means):
    assert means in failures.dead_worker(RuntimeError(text))
    assert failures.dead_worker(ValueError(text)) is None


def test_a_full_disk(capsys, tmp_path):
    file = str(tmp_path / "log")
    status, said = ending(capsys, OSError(errno.ENOSPC, "No space left on device", file))
    assert status == 2 and f"{file} cannot be written: no space is left on its disk or in its quota (" in said
    try:
        raise OSError(errno.EFBIG, "File too large")
    except OSError:
        error = RuntimeError("unexpected pos")  # raised while the other one was handled
        error.__context__ = OSError(errno.EFBIG, "File too large")
    assert "a file cannot be written" in ending(capsys, error)[1]


def test_a_full_disk_in_a_thread_is_left_to_the_main_thread(monkeypatch):
    printed = []
    monkeypatch.setattr(threading, "excepthook", lambda args: printed.append(args.exc_type))
    launch.run(lambda: None)
    for error in (OSError(errno.ENOSPC, "No space left on device"), ValueError("bug")):
        threading.excepthook(threading.ExceptHookArgs((type(error), error, None, None)))
    assert printed == [ValueError]


def test_a_worker_whose_reader_has_gone_says_nothing(monkeypatch):
    printed = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, *_: printed.append(kind))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    launch.run(lambda: None)
    sys.excepthook(EOFError, EOFError(), None)
    monkeypatch.setattr(os, "getpid", lambda: 0)  # a fork
    for error in (EOFError(), ConnectionResetError(), ValueError()):
        sys.excepthook(type(error), error, None)
    assert printed == [EOFError, ValueError]


GLOO = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [10.0.0.2]:51234",
    "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 30000ms for recv operation",
)


@pytest.mark.parametrize("text", GLOO)
def test_a_lost_process(monkeypatch, capsys, text):
    left = []
    monkeypatch.setattr(launch, "_leave", lambda status: left.append(status))
    assert failures.lost_process(RuntimeError(text)) is None  # a single process loses nobody
    monkeypatch.setenv("RANK", "3")

    def main():
        raise RuntimeError(text)

    launch.run(main)
    said = capsys.readouterr().err
    assert left == [1] and said.count("\n") == 1 and "rank 3 has lost the other processes (" in said
    assert "dist_cfg.timeout" in said and "--resume" in said
    assert failures.lost_process(RuntimeError("shapes do not match")) is None
