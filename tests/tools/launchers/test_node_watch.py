"""The watch over the other nodes of a run."""

import argparse
import signal
import threading

import pytest
from node_watch import DONE, NodeWatch
from scripts import load_script
from slurm import free_ports
from torch.distributed import TCPStore


@pytest.fixture
def stopped(monkeypatch):
    """Return an event that is set when a watch has stopped its process, which goes on here."""
    event, signals = threading.Event(), []

    def leave(status):  # the last thing that a watch does: only then may the real functions come back
        assert signals == [signal.SIGTERM] and status == 1
        event.set()

    monkeypatch.setattr("node_watch.os.kill", lambda pid, number: signals.append(number))
    monkeypatch.setattr("node_watch.os._exit", leave)
    monkeypatch.setattr("node_watch.END_S", 0)
    return event


@pytest.mark.parametrize("node", [0, 1])
def test_a_silent_node_stops_this_one(stopped, capsys, node):
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    store.set(f"node_watch/{1 - node}", "7")  # and never again
    watch = NodeWatch("127.0.0.1", store.port, node, 2, timeout=0.8)
    assert stopped.wait(60)
    watch.end()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"node {1 - node}" in said and "has been silent for 1 s" in said
    assert watch.lost and ("127.0.0.1" in said) == (node == 1)


def test_a_first_node_that_never_counts_is_silent_too(stopped, capsys):
    """The network may go down before its first count has arrived."""
    (port,) = free_ports(1)
    watch = NodeWatch("127.0.0.1", port, 2, 3, timeout=0.8)
    store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)  # later, and node 1 not at all
    assert stopped.wait(60)
    watch.end()
    assert "node 0 (127.0.0.1" in capsys.readouterr().err and store.check(["node_watch/2"])


def test_nodes_that_beat_or_have_ended_are_left_alone(stopped):
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    store.set("node_watch/2", DONE)
    watches = [NodeWatch("127.0.0.1", store.port, node, 3, timeout=4) for node in (0, 1)]
    assert not stopped.wait(6)
    for watch in watches:
        watch.end()
    assert store.get("node_watch/0") == store.get("node_watch/1") == DONE.encode()
    assert [watch.lost for watch in watches] == [None, None]


def test_what_is_watched(monkeypatch, capsys):
    torchrun = load_script("tools/launchers/torchrun.py")
    made = []
    monkeypatch.setattr(torchrun, "NodeWatch", lambda *args: made.append(args))
    place = dict(master_addr="10.0.0.1", master_port=29500, node_rank=1)
    one = argparse.Namespace(nnodes="1", rdzv_backend="static", **place)
    elastic = argparse.Namespace(nnodes="2", rdzv_backend="c10d", **place)
    assert torchrun.watched(one) is None and torchrun.watched(elastic) is None and not made
    two = argparse.Namespace(nnodes="2", rdzv_backend="static", **place)
    monkeypatch.delenv("NODE_TIMEOUT", raising=False)
    torchrun.watched(two)
    monkeypatch.setenv("NODE_TIMEOUT", "90")
    torchrun.watched(two)
    assert made == [("10.0.0.1", 29500, 1, 2, 40.0), ("10.0.0.1", 29500, 1, 2, 90.0)]
    for wrong in ("soon", "0", "nan"):
        monkeypatch.setenv("NODE_TIMEOUT", wrong)
        with pytest.raises(SystemExit) as end:
            torchrun.watched(two)
        assert end.value.code == 2 and f"NODE_TIMEOUT is {wrong}; it must be" in capsys.readouterr().err
