"""Process groups: the variables that Slurm leaves to the program, and gloo on machines without an accelerator."""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from collections.abc import Mapping
from datetime import timedelta

import torch.distributed as dist

from ..errors import ConfigError

TIMEOUT_S = 600  # as torch waits for NCCL; the main process alone evaluates and checks data sets while others wait
_FROM_LAUNCHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def read_slurm(port: int | None = None) -> None:
    """Set the variables of torch.distributed (``RANK``, ``MASTER_ADDR`` ...) from those of Slurm.

    The address and port of the master are kept if they are set. The port follows from the job and step, so that two
    jobs on one node do not meet.

    Args:
        port: port of the master; None for the environment's or the job's own.

    Raises:
        ConfigError: srun has not started this process.
    """
    env = os.environ
    nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST") or env.get("SLURM_NODELIST")
    tasks = env.get("SLURM_STEP_NUM_TASKS") or env.get("SLURM_NTASKS")
    if not nodes or not tasks or "SLURM_PROCID" not in env:
        raise ConfigError(
            "--launcher slurm reads SLURM_PROCID, SLURM_NTASKS and SLURM_NODELIST, which srun sets: start this with "
            "tools/slurm_train.sh, tools/slurm_test.sh or srun"
        )
    job, step = (int(env.get(name) or 0) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    if port is not None:
        env["MASTER_PORT"] = str(port)
    env.setdefault("MASTER_PORT", str(12000 + (job + 1009 * step) % 20000))  # below the ports of outgoing connections
    env.setdefault("MASTER_ADDR", first_node(nodes))
    env["RANK"], env["WORLD_SIZE"] = env["SLURM_PROCID"], tasks
    env["LOCAL_RANK"] = env.get("SLURM_LOCALID", "0")


def first_node(nodes: str) -> str:
    """Return the first name of Slurm's list of nodes: "n01" of "n[01-03,7],m2"."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first.group() if first else nodes)


def init_gloo(options: Mapping | None = None) -> None:
    """Start a process group with gloo.

    Args:
        options: ``env_cfg.dist_cfg`` of the config; its ``timeout`` in seconds is how long a silent process is waited
            for (default: TIMEOUT_S; torch's own is half an hour).

    Raises:
        ConfigError: no launcher has set the variables of torch.distributed, or the timeout is not a number.
    """
    missing = [name for name in _FROM_LAUNCHER if name not in os.environ]
    if missing:
        raise ConfigError(
            f"--launcher is given but {', '.join(missing)} is not set: start several processes with dist_train.sh or "
            "torchrun, and a single one without --launcher"
        )
    timeout = (options or {}).get("timeout")
    timeout = TIMEOUT_S if timeout is None else timeout
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0:
        raise ConfigError(f"env_cfg.dist_cfg.timeout is {timeout!r}; it must be a number of seconds, e.g. 300")
    name = None if "GLOO_SOCKET_IFNAME" in os.environ else interface(os.environ["MASTER_ADDR"], several_nodes())
    if name:
        os.environ["GLOO_SOCKET_IFNAME"] = name
    dist.init_process_group("gloo", timeout=timedelta(seconds=timeout))


def several_nodes() -> bool:
    """Return whether the processes of this run are on more than one machine, as far as the launcher says."""
    if "LOCAL_WORLD_SIZE" in os.environ:  # of torchrun
        return int(os.environ["WORLD_SIZE"]) > int(os.environ["LOCAL_WORLD_SIZE"])
    return int(os.environ.get("SLURM_STEP_NUM_NODES") or os.environ.get("SLURM_NNODES") or 1) > 1


def interface(master: str, others: bool) -> str | None:
    """Return the network interface that processes on the way to ``master`` are reached by, or None if not known.

    gloo asks the host's name, which is a loopback address on many machines (Debian's default): other nodes cannot
    connect to that.

    Args:
        master: address or name of the node of rank 0.
        others: there are other nodes, so that a loopback interface is of no use.
    """
    if not sys.platform.startswith("linux"):
        return None
    own = _own_address(master)
    if others and (own is None or own.startswith("127.")):
        own = _own_address("192.0.2.1")  # an address of no host: the default route leads there
    return _interface_of(own) if own else None


def _own_address(host: str) -> str | None:
    """Return the IPv4 address that packets to ``host`` would be sent from; none is sent."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.connect((host, 9))
            return link.getsockname()[0]
    except OSError:
        return None


def _interface_of(address: str) -> str | None:
    import fcntl  # not on Windows

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for _, name in socket.if_nameindex():
            try:
                reply = fcntl.ioctl(link, 0x8915, struct.pack("256s", name.encode()[:15]))  # SIOCGIFADDR
            except OSError:  # an interface without an IPv4 address
                continue
            if socket.inet_ntoa(reply[20:24]) == address:
                return name
    return None
