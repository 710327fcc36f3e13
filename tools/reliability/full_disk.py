"""Let the disk run full while training, evaluation, conversion and drawing write, then make room and run them again.

    python tools/reliability/full_disk.py --cases 20 --json docs/reliability/20_faults.json

Each case runs in a small disk in memory (a tmpfs; mounting needs root) whose size the seed decides, between nothing and
what the whole run needs. Where mounting is not allowed, or with --limit, the size of each file is limited instead
(RLIMIT_FSIZE). Then

- the run must end with one sentence that names the full disk, without a traceback,
- every file under its final name must be whole,
- with enough space, the same command must end well, with the result of a run on an empty disk.

Exit status: 1 if there is a fault.
"""

import random
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import mmdet.apis  # noqa: F401  loaded once, for all forks
import mmpretrain.apis  # noqa: F401
import mmseg.apis  # noqa: F401
import torch
from forked import run
from rows import faults_row, parser_of, print_rows, write_rows
from whole_files import broken_files
from workloads import equal, prepare, works

KINDS = dict(
    training="full disk in training",
    evaluation="full disk in evaluation",
    dataset="full disk in data-set conversion",
    conversion="full disk in checkpoint conversion",
    picture="full disk in drawing",
)
SENTENCE = re.compile(r"no space is left on its disk or in its quota \(.* needed.*\)")
LEAST = 32768  # of the largest file: what a run prints is a file, too


def main():
    parser = parser_of(__doc__, KINDS, "disks", "sizes")
    parser.add_argument("--limit", action="store_true", help="limit the size of files instead of mounting")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory(prefix="full-") as base:
        prepare(Path(base))
        limit = args.limit or not can_mount(Path(base))
        for kind in args.kinds:
            rows.append(full(kind, Path(base), args.cases, random.Random(f"{args.seed} {kind}"), args.seed, limit))
            print_rows(rows[-1:])
            write_rows(args.json, rows[-1:])
    sys.exit(any(row["faults"] for row in rows))


def full(kind, base, cases, random, seed, limit):
    """Run out of space ``cases`` times in works of one kind, in turns, and return the row."""
    sizes, found, ran_full = {}, [], 0
    for number in range(cases):
        todo = works(kind, base)
        name = list(todo)[number % len(todo)]
        if name not in sizes:
            sizes[name] = uninterrupted(base, todo[name])
        used, largest, wanted = sizes[name]
        size = random.randint(min(LEAST, largest - 1), largest - 1) if limit else random.randint(4096, used)
        faults, was_full = case(base, todo[name], size, wanted, limit)
        ran_full += was_full
        print(f"{KINDS[kind]} {number + 1}/{cases}: {name}, {size} bytes", flush=True)
        found += [f"{name}, {size} bytes: {fault}" for fault in faults]
    how = "limited size of files" if limit else "tmpfs"
    return faults_row(KINDS[kind], cases, found, ran_full=ran_full, how=how, seed=seed, works=sorted(sizes), threads=1)


def uninterrupted(base, work):
    """Run a work to its end; return the bytes that its files take, those of the largest, and its result."""
    with disk(base, None) as folder:
        ended = run(folder, *work.command)
        wanted = work.result(folder)
        if ended.status or wanted is None:
            raise RuntimeError(f"{work.command} ended with status {ended.status}: {ended.said[-3000:]}")
        files = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(-(-size // 4096) * 4096 for size in files), max(files), wanted


def case(base, work, size, wanted, limit):
    """Run a work on a small disk, then with enough space; return a sentence for each fault and whether it ran full."""
    with disk(base, None if limit else size) as folder:
        before = run(folder, *work.command, largest=size if limit else None)
        faults = [] if before.status == 0 else told(before)
        faults += broken_files(folder)
        there = work.result(folder)
        if there is not None and equal(there, wanted) and work.tidy:
            return faults, before.status != 0
        if there is not None and work.tidy:
            faults.append("a part of the result stands in its place")
        if not limit:
            mount(folder, None, "remount,")
        again = run(folder, *work.command)
        if again.status:
            faults.append(f"run again, it ends with status {again.status}: {again.said.strip()[-800:]}")
        elif not equal(work.result(folder), wanted):
            faults.append("run again, its result is another than on an empty disk")
    return faults, before.status != 0


def told(ended):
    """Return what is wrong with the message of a run that ended because the disk was full."""
    lines = ended.said.strip().splitlines() or [""]
    if "Traceback" in ended.said or "Logging error" in ended.said:
        return [f"a traceback is printed: {ended.said.strip()[-600:]}"]
    return [] if SENTENCE.search(lines[-1]) else [f"status {ended.status}, and the last line is {lines[-1][-300:]!r}"]


@contextmanager
def disk(base, size):
    """Yield an empty folder beside the data, on a disk of ``size`` bytes or, with None, on that of the data."""
    folder = base / "case"
    folder.mkdir()
    try:
        if size is not None:
            mount(folder, size)
        (folder / "data").symlink_to(base / "data")
        yield folder
    finally:
        if size is not None:
            subprocess.run(["umount", "-l", folder], check=True)
        shutil.rmtree(folder)


def mount(folder, size, how=""):
    """Mount a disk in memory of ``size`` bytes at ``folder``, or change its size; None for ample space."""
    text = f"{how}size={size or 2**30},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", text, "tmpfs", folder], check=True, stderr=subprocess.DEVNULL)


def can_mount(base):
    """Return whether this process may mount a disk in memory."""
    try:
        with disk(base, 2**20):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


if __name__ == "__main__":
    main()
