"""Kill data-loader workers, ranks and launchers, silence nodes and networks: a run must end, soon, with a reason.

    python tools/reliability/dead_processes.py --cases 20 --json docs/reliability/20_faults.json
    python tools/reliability/dead_processes.py --kinds "silent network" --cases 1

Two launchers (tools/launchers/torchrun.py) on this machine are two nodes, each with one process that trains; in "silent
network", each is in a network namespace of its own (needs root and iproute2). At a time that the seed decides,

    dead worker     one of two data-loader workers is killed by SIGKILL, in a training in one process,
    dead rank       one of two processes is killed, on one node,
    dead launcher   the launcher of one of two nodes is killed,
    dead node       all processes of a node are killed,
    silent node     all processes of a node are stopped, so that its connections stay open and nothing answers,
    silent network  the link between the nodes is taken down.

Within a minute, every process that is left must have ended, with a sentence that says why and without a traceback. The
processes of a silent node cannot; those of a node behind a silent network must. Exit status: 1 if there is a fault.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rows import faults_row, parser_of, print_rows, write_rows

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 60
START_S = 300  # on a machine that does much else
SILENT_S = 20  # NODE_TIMEOUT of the runs; its default is 40
KINDS = ("dead worker", "dead rank", "dead launcher", "dead node", "silent node", "silent network")
SAYS = {
    "dead worker": r"data-loader worker [\d, ]+ died",
    "dead rank": r"rank 1 died \(signal 9: SIGKILL",
    "dead launcher": r"has lost the other processes|has been silent for",
    "dead node": r"has lost the other processes|has been silent for",
    "silent node": r"node 1 has been silent for",
    "silent network": r"node [01].* has been silent for",
}
# A training without the toolboxes: what the processes of a run exchange and load, by the functions of real ones.
TRAIN = """
import os
import time
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader
from mmcv_custom.cli.launch import run
from mmcv_custom.engine.distributed import init_gloo

class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 10**6
    def __getitem__(self, i):
        time.sleep(0.02)
        return torch.tensor(float(i))

def main():
    rank = os.environ.get("RANK", "0")
    if "RANK" in os.environ:
        init_gloo()
    with open(f"pid{rank}.part", "w") as file:
        file.write(str(os.getpid()))
    for i, batch in enumerate(DataLoader(Numbers(), batch_size=4, num_workers=2)):
        if "RANK" in os.environ:
            dist.all_reduce(batch)
        if i == 2:
            os.rename(f"pid{rank}.part", f"pid{rank}")

run(main)
"""


def main():
    args = parser_of(__doc__, KINDS, "runs", "times").parse_args()
    rows = []
    for kind in args.kinds:
        if kind == "silent network" and not (shutil.which("ip") and os.geteuid() == 0):
            print(f"{kind}: left out, it needs root and the program ip (Debian: iproute2)")
            continue
        chosen, found, slowest = random.Random(f"{args.seed} {kind}"), [], 0.0
        for number in range(args.cases):
            fault, seconds = case(kind, chosen.uniform(0, 2))
            found += [fault] if fault else []
            slowest = max(slowest, seconds)
            print(f"{kind} {number + 1}/{args.cases}: ended after {seconds:.1f} s", flush=True)
        more = dict(seed=args.seed, slowest_s=round(slowest, 1), node_timeout_s=SILENT_S)
        rows.append(faults_row(kind, args.cases, found, **more))
        print_rows(rows[-1:])
        write_rows(args.json, rows[-1:])
    sys.exit(any(row["faults"] for row in rows))


def case(kind, delay):
    """Let one run die; return a sentence about what is wrong, or None, and the seconds until it had ended."""
    with tempfile.TemporaryDirectory(prefix="dead-") as folder, ExitStack() as stack:
        folder = Path(folder)
        (folder / "train.py").write_text(TRAIN)
        nodes = start(kind, folder, stack)
        ranks = [0] if kind == "dead worker" else [0, 1]
        end = time.monotonic() + START_S
        while not all((folder / f"pid{rank}").exists() for rank in ranks):
            if time.monotonic() > end or any(node.poll() is not None for node in nodes):
                return f"the run did not start: {said(folder)[-800:]}", 0.0
            time.sleep(0.1)
        time.sleep(delay)
        mine = members(nodes)
        left = strike(kind, folder, nodes, stack)
        begin = time.monotonic()
        while any(alive(pid) for pid in mine - left) and time.monotonic() - begin < WITHIN_S:
            time.sleep(0.1)
        seconds, text = time.monotonic() - begin, said(folder)
        late = [pid for pid in mine - left if alive(pid)]
        if late:
            return f"{len(late)} of its processes had not ended after {WITHIN_S} s: {text[-800:]}", seconds
        if not re.search(SAYS[kind], text) or "Traceback" in text:
            return f"it does not say why it ended: {text[-800:]}", seconds
        return None, seconds


def start(kind, folder, stack):
    """Start the run of a kind; return its launchers, one a node."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", NODE_TIMEOUT=str(SILENT_S))
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    launcher = [sys.executable, ROOT / "tools/launchers/torchrun.py"]
    if kind == "dead worker":
        commands = [[sys.executable, "train.py"]]
    elif kind == "dead rank":
        commands = [[*launcher, "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2", "train.py"]]
    else:
        inside = namespaces(stack) if kind == "silent network" else ([], [])
        address = "10.77.0.1" if kind == "silent network" else "127.0.0.1"
        where = ["--master-addr", address, "--master-port", str(random.randint(20000, 30000)), "--nproc-per-node", "1"]
        commands = [
            [*inside[n], *launcher, "--nnodes", "2", "--node-rank", str(n), *where, "train.py"] for n in range(2)
        ]
    nodes = []
    for number, command in enumerate(commands):
        file = stack.enter_context((folder / f"said{number}").open("w"))
        nodes.append(
            subprocess.Popen(
                list(map(str, command)),
                cwd=folder,
                env=environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        )
        stack.callback(end_all, nodes[-1])
    return nodes


def namespaces(stack):
    """Make two network namespaces with a link; return the beginnings of commands that run inside."""
    names = [f"faults{os.getpid()}{letter}" for letter in "ab"]
    for name in names:
        ip("netns", "add", name)
        stack.callback(ip, "netns", "delete", name)
    ip("link", "add", "v0", "netns", names[0], "type", "veth", "peer", "name", "v0", "netns", names[1])
    for number, name in enumerate(names, 1):
        ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "v0")
        for device in ("lo", "v0"):
            ip("-n", name, "link", "set", device, "up")
    return [["ip", "netns", "exec", name] for name in names]


def ip(*command):
    subprocess.run(["ip", *command], check=True)


def strike(kind, folder, nodes, stack):
    """Do what the kind says; return the processes that cannot end by themselves."""
    pids = [int(path.read_text()) for path in sorted(folder.glob("pid?"))]
    if kind == "dead worker":
        os.kill(random.choice(children(pids[0])), signal.SIGKILL)
    elif kind == "dead rank":
        os.kill(pids[1], signal.SIGKILL)
    elif kind == "dead launcher":
        os.kill(nodes[random.randint(0, 1)].pid, signal.SIGKILL)
    elif kind == "silent network":
        ip("-n", f"faults{os.getpid()}b", "link", "set", "v0", "down")
    else:
        gone = members(nodes[1:])
        for pid in gone:
            os.kill(pid, signal.SIGKILL if kind == "dead node" else signal.SIGSTOP)
        return gone if kind == "silent node" else set()
    return set()


def members(nodes):
    """Return the process ids of the launchers and of all that they have started."""
    found, new = set(), [node.pid for node in nodes]
    while new:
        found.update(new)
        new = [child for pid in new for child in children(pid)]
    return found


def children(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def alive(pid):
    """Return whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def said(folder):
    return "".join(path.read_text(errors="replace") for path in sorted(folder.glob("said?")))


def end_all(node):
    """End a launcher and all that it has started."""
    for pid in members([node]):
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    node.wait()


if __name__ == "__main__":
    main()
