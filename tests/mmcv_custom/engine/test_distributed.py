"""Process groups: Slurm's variables, the network interface, timeouts."""

import multiprocessing
import os
import socket
import sys
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from mmcv_custom import ConfigError
from mmcv_custom.engine import distributed

SLURM = dict(
    SLURM_PROCID="3",
    SLURM_LOCALID="1",
    SLURM_NTASKS="4",
    SLURM_NODELIST="n[07-09,12],m1",
    SLURM_JOB_ID="4711",
    SLURM_STEP_ID="0",
)


@pytest.fixture
def variables(monkeypatch):
    """Set the variables of a process of Slurm and forget what a launcher has set."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "GLOO_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize(
    "nodes, first",
    [("n1", "n1"), ("n[01-03,7],m2", "n01"), ("a,b", "a"), ("r[2,4]n[5-6].lan", "r2n5.lan"), ("gpu-7,gpu-9", "gpu-7")],
)
def test_first_node(nodes, first):
    assert distributed.first_node(nodes) == first


def test_slurms_variables(variables):
    distributed.read_slurm()
    assert {n: os.environ[n] for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")} == dict(
        RANK="3", WORLD_SIZE="4", LOCAL_RANK="1", MASTER_ADDR="n07"
    )
    port = os.environ.pop("MASTER_PORT")
    for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"):  # another job, another step of the job
        variables.setenv(name, str(int(os.environ[name]) + 1))
        distributed.read_slurm()
        assert 12000 <= int(os.environ["MASTER_PORT"]) < 32000 and os.environ.pop("MASTER_PORT") != port


def test_an_address_and_a_port_that_are_set_are_kept(variables):
    variables.setenv("MASTER_PORT", "1234")
    variables.setenv("MASTER_ADDR", "10.0.0.1")
    distributed.read_slurm()
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("10.0.0.1", "1234")
    distributed.read_slurm(port=4321)
    assert os.environ["MASTER_PORT"] == "4321"


def test_launchers_that_did_not_start_the_process(variables):
    with pytest.raises(ConfigError, match="RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT is not set: start several"):
        distributed.init_gloo()
    variables.delenv("SLURM_PROCID")
    with pytest.raises(ConfigError, match="which srun sets: start this with tools/slurm_train.sh"):
        distributed.read_slurm()


def test_the_timeout_reaches_gloo(variables):
    seen = []
    variables.setattr(dist, "init_process_group", lambda backend, timeout: seen.append((backend, timeout)))
    variables.setenv("MASTER_ADDR", "127.0.0.1")
    distributed.read_slurm()
    for options in (dict(backend="nccl", timeout=33), None):
        distributed.init_gloo(options)
    assert seen == [("gloo", timedelta(seconds=33)), ("gloo", timedelta(seconds=600))]
    for wrong in ("33", 0, True):
        with pytest.raises(ConfigError, match="dist_cfg.timeout is .* number of seconds"):
            distributed.init_gloo(dict(timeout=wrong))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="interfaces are looked up on Linux only")
def test_the_interface_follows_from_the_route(monkeypatch):
    assert distributed.interface("127.0.0.1", others=False) == "lo"
    monkeypatch.setattr(distributed, "_own_address", {"node0": "127.0.0.1", "192.0.2.1": "10.1.2.3"}.get)
    monkeypatch.setattr(distributed, "_interface_of", {"127.0.0.1": "lo", "10.1.2.3": "eth0"}.get)
    # The master's own name is a loopback address there: other nodes need the way out.
    assert distributed.interface("node0", others=True) == "eth0"
    assert distributed.interface("node0", others=False) == "lo"
    monkeypatch.setattr(distributed, "_own_address", lambda host: None)
    assert distributed.interface("node0", others=True) is None


def _process(rank, port, results):
    os.environ.update(SLURM, SLURM_PROCID=str(rank), SLURM_NTASKS="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.read_slurm()
    distributed.init_gloo(dict(timeout=60))
    total = torch.tensor([rank + 1.0])
    dist.all_reduce(total)
    results.put(total.item())
    results.close()
    results.join_thread()
    os._exit(0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a process that uses CUDA cannot be forked")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks")
def test_two_processes_of_slurm_meet(variables):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    started = [fork.Process(target=_process, args=(rank, port, results)) for rank in range(2)]
    for process in started:
        process.start()
    assert [results.get(timeout=60) for _ in started] == [3.0, 3.0]
    for process in started:
        process.join(60)
