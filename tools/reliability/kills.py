"""Kill training, evaluation and conversion with SIGKILL at random points, and run them again.

    python tools/reliability/kills.py --cases 20 --json docs/reliability/20_faults.json
    python tools/reliability/kills.py --kinds training --cases 3 --seed 7

Each case kills a run of nano models on generated data at a point that the seed decides: at one of its changes of the
file system, some milliseconds after it, or at a time. Then

- every file that it has left under its final name must be whole,
- the same command must end well,
- and its result must be that of a run that was not killed: weights bit by bit, scores, files byte by byte.

Everything runs on CPU, in one thread. Exit status: 1 if there is a fault.
"""

import random
import shutil
import sys
import tempfile
from pathlib import Path

import mmdet.apis  # noqa: F401  loaded once, for all forks
import mmpretrain.apis  # noqa: F401
import mmseg.apis  # noqa: F401
import torch
from forked import Kill, run
from rows import faults_row, parser_of, print_rows, write_rows
from whole_files import broken_files
from workloads import equal, prepare, works

KINDS = dict(
    training="kill training",
    evaluation="kill evaluation",
    dataset="kill data-set conversion",
    conversion="kill checkpoint conversion",
)


def main():
    args = parser_of(__doc__, KINDS, "kills", "points").parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory(prefix="kills-") as base:
        prepare(Path(base))
        for kind in args.kinds:
            rows.append(kills(kind, Path(base), args.cases, random.Random(f"{args.seed} {kind}"), args.seed))
            print_rows(rows[-1:])
            write_rows(args.json, rows[-1:])
    sys.exit(any(row["faults"] for row in rows))


def kills(kind, base, cases, random, seed):
    """Kill runs of one kind ``cases`` times, its works in turns, and return the row."""
    whole, found, killed = {}, [], 0
    for number in range(cases):
        todo = works(kind, base)
        name = list(todo)[number % len(todo)]
        if name not in whole:
            whole[name] = uninterrupted(base, todo[name])
        ended, result = whole[name]
        for _ in range(5):  # a run that ends before its kill is no case
            kill = point(random, ended)
            faults, died = case(base, todo[name], kill, result)
            if died or faults:
                break
        killed += died
        print(f"{KINDS[kind]} {number + 1}/{cases}: {name}, {kill}", flush=True)
        found += [f"{name}, {kill}: {fault}" for fault in faults]
    return faults_row(KINDS[kind], cases, found, killed=killed, seed=seed, works=sorted(whole), threads=1)


def uninterrupted(base, work):
    """Run a work to its end; return how it ended and its result."""
    folder = fresh(base)
    ended = run(folder, *work.command)
    result = work.result(folder)
    if ended.status or result is None:
        raise RuntimeError(f"{work.command} ended with status {ended.status}: {ended.said[-3000:]}")
    return ended, result


def point(random, ended):
    """Choose where to kill a run that takes as long as ``ended``."""
    if random.random() < 0.3:
        return Kill(seconds=random.uniform(0, ended.seconds))
    return Kill(random.randint(1, ended.changes), random.choice((0.0, random.uniform(0, 0.03))))


def case(base, work, kill, wanted):
    """Kill a run and repeat it; return a sentence for each fault, and whether it was killed before its end."""
    folder = fresh(base)
    before = run(folder, *work.command, kill=kill)
    faults = broken_files(folder)
    there = work.result(folder)
    done = not faults and there is not None and equal(there, wanted)
    if there is not None and not done and work.tidy:
        faults.append("a part of the result stands in its place")
    if not done or not work.tidy:
        again = run(folder, *work.command)
        if again.status:
            return [*faults, f"run again, it ends with status {again.status}: {again.said.strip()[-800:]}"], True
    if not equal(work.result(folder), wanted):
        faults.append("run again, its result is another than without the kill")
    left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    if left and work.tidy:
        faults.append(f"run again, it leaves {', '.join(left)}")
    return faults, before.status < 0


def fresh(base):
    """Return an empty folder for one run, beside the data."""
    folder = base / "case"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "data").symlink_to(base / "data")
    return folder


if __name__ == "__main__":
    main()
