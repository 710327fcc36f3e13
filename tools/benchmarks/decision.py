"""What share of a net's time its method takes to decide: all that it does between and around the blocks, without the
heads that a method like DToP asks.

    python tools/benchmarks/decision.py configs/segvit/vit-b-dtop_segvit_ade20k-512.py --batch 1 8 \\
        --json rows.json

The device is idle at both ends of everything that is timed, so that on CUDA the share is an upper bound. Without
--checkpoint the weights are random.
"""

import argparse
import statistics

import torch

from mmcv_custom.benchmark import BenchmarkCase, BenchmarkSettings
from mmcv_custom.benchmark.case import BenchmarkModel
from mmcv_custom.benchmark.flops import wrapped_hooks
from mmcv_custom.benchmark.timing import Clock, quartiles
from mmcv_custom.cli.launch import run
from mmcv_custom.errors import ConfigError
from mmcv_custom.results import row, write_json


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="of a pruned model")
    parser.add_argument("--checkpoint", metavar="FILE", help="its weights (default: random ones)")
    parser.add_argument("--images", metavar="FOLDER", help="images, through the test pipeline (default: synthetic)")
    parser.add_argument("--shape", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of synthetic images")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], metavar="N", help="images at a time")
    parser.add_argument("--repeats", type=int, default=9, metavar="N", help="at least 2 (default: 9)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", metavar="FILE", help="write the rows there")
    args = parser.parse_args()
    if args.repeats < 2 or min(args.batch) < 1:
        raise ConfigError("--repeats must be at least 2 (quartiles need them), --batch at least 1")
    return args


@torch.no_grad()
def share(session, repeats):
    """Fields of a row."""
    clock = Clock(session.device)

    def watched(hook):
        def run(*args, **kwargs):
            found = hook(*args, **kwargs)
            if getattr(found, "score_fn", None):  # the memory that a forward starts with
                found.score_fn = clock.watch(found.score_fn, -1)
            return found

        return clock.watch(run)

    with wrapped_hooks(session.model.backbone.reducer, watched):
        shares, totals = clock.shares(session.forward, repeats, warmup=2)
    return dict(
        ms=statistics.median(totals),
        share_of_decision=statistics.median(shares),
        share_of_decision_quartiles=quartiles(shares),
    )


def main():
    args = parse_args()
    rows = []
    for batch in args.batch:
        setting = BenchmarkSettings(device=args.device, images=args.images, repeats=args.repeats)
        case = BenchmarkCase(args.config, args.checkpoint, batch=batch, shape=args.shape and tuple(args.shape))
        session = BenchmarkModel(case, setting)
        if session.kept == "dense":
            raise ConfigError(f"config {args.config} has no reducer: give one of a pruned model")
        found = share(session, args.repeats)
        rows.append(
            row(
                case=f"deciding, {type(session.model.backbone.reducer).__name__}",
                config=args.config,
                checkpoint=args.checkpoint,
                batch=batch,
                device=args.device,
                rounds=args.repeats,
                **found,
            )
        )
        print(
            f"batch {batch}: {found['share_of_decision']:.2%} of {found['ms']:.0f} ms (quartiles "
            f"{' to '.join(f'{q:.2%}' for q in found['share_of_decision_quartiles'])})"
        )
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    run(main)
