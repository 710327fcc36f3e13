"""Feed the library with sound and broken input of every kind, from a seed, and write how many faults it has.

    make fuzz CASES=2000 SEED=1                      # writes work_dirs/fuzz.json
    make fuzz KIND="own data" SEED=1 NUMBER=17       # one case again

The exit status is 1 if there is a fault.
"""

import argparse
import shlex

from fuzz import annotations, checkpoints, configs, images, label_maps, own_data, videos
from fuzz.contract import Found, run_case

from mmcv_custom.results import row, write_json

# Kind -> how a case of it is run, and its share of the cases in percent.
KINDS = {
    "images": (images.run, 20),
    "image commands": (images.run_commands, 2),
    "annotations": (annotations.run, 22),
    "own data": (own_data.run, 14),
    "label maps": (label_maps.run, 10),
    "method options": (configs.run_options, 18),
    "configs": (configs.run_configs, 2),
    "checkpoints": (checkpoints.run, 11),
    "videos": (videos.run, 1),
}


def faults_of(kind: str, seed: int, numbers: range) -> list[Found]:
    """Run cases of a kind and return their faults."""
    return [found for number in numbers if (found := run_case(kind, KINDS[kind][0], seed, number))]


def main() -> None:
    parser = argparse.ArgumentParser(description="Feed the library with sound and broken input.")
    parser.add_argument("--cases", type=int, default=2000, help="of all kinds together (default: 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, help="only this one")
    parser.add_argument("--number", type=int, help="only this case of --kind")
    parser.add_argument("--out", default="work_dirs/fuzz.json", help="JSON rows (default: work_dirs/fuzz.json)")
    args = parser.parse_args()
    if args.number is not None and not args.kind:
        parser.error("--number is the number of a case of --kind")
    rows, bad = [], 0
    for kind, (_, share) in KINDS.items():
        if args.kind not in (None, kind):
            continue
        count = args.cases if args.kind else max(1, round(args.cases * share / 100))
        numbers = range(count) if args.number is None else range(args.number, args.number + 1)
        found = faults_of(kind, args.seed, numbers)
        for fault in found:
            print(f"{fault.command}\n  given: {fault.given}\n  {fault.outcome}", flush=True)
        print(f"{kind}: {len(numbers)} cases, {len(found)} faults", flush=True)
        bad += len(found)
        command = f"make fuzz KIND={shlex.quote(kind)} CASES={count} SEED={args.seed}"
        rows.append(row(kind="fuzz", what=kind, cases=len(numbers), faults=len(found), seed=args.seed, command=command))
        if args.number is None:
            write_json(args.out, rows)
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
