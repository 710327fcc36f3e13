"""A Slurm cluster of one node for tests: Debian's munged, slurmctld and slurmd, with their files in one folder."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sinfo")
SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
CONFIG = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES
"""


def missing_programs():
    """Return the programs of Slurm that this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=SYSTEM_PATH) is None]


@contextmanager
def cluster(folder, cpus=4):
    """Run a cluster with the partition ``all`` and yield the variables that its clients need.

    Args:
        folder: an empty folder for its files.
        cpus: number of CPUs that the node claims.
    """
    folder = Path(folder)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    host, user = socket.gethostname().split(".")[0], getpass.getuser()
    ports = dict(zip(("controller_port", "node_port"), free_ports(2), strict=True))
    (folder / "slurm.conf").write_text(CONFIG.format(host=host, user=user, folder=folder, cpus=cpus, **ports))
    env = dict(os.environ, PATH=SYSTEM_PATH, SLURM_CONF=str(folder / "slurm.conf"))
    munge = {name: folder / f"munge.{name}" for name in ("socket", "seed", "pid", "log")}
    options = [f"--{name}{'' if name == 'socket' else '-file'}={path}" for name, path in munge.items()]
    with ExitStack() as stack:
        stack.enter_context(_daemon("munged", "-F", "--force", f"--key-file={folder}/munge.key", *options, env=env))
        _wait(munge["socket"].exists, "munged has no socket", folder)
        stack.enter_context(_daemon("slurmctld", "-D", "-i", "-f", env["SLURM_CONF"], env=env, log=folder / "ctl.log"))
        stack.enter_context(_daemon("slurmd", "-D", "-N", host, "-f", env["SLURM_CONF"], env=env, log=folder / "d.log"))
        _wait(lambda: "idle" in _output("sinfo", "-h", "-o", "%T", env=env), "the node is not idle", folder)
        yield env


@contextmanager
def _daemon(*command, env, log=os.devnull):
    with open(log, "w") as file, subprocess.Popen(command, env=env, stdout=file, stderr=file) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _output(*command, env):
    return subprocess.run(command, env=env, capture_output=True, text=True).stdout


def _wait(true, sentence, folder, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            logs = "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in folder.glob("*.log"))
            raise TimeoutError(f"{sentence} after {seconds} s\n{logs}")
        time.sleep(0.1)


def free_ports(number):
    """Return ports of this machine that nobody listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
