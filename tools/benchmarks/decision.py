"""Measure the fraction of a network's time that its method takes to select tokens.

It covers all hooks of the reducer, without the heads whose class scores a method like DToP needs.

    python tools/benchmarks/decision.py configs/segvit/vit-b-dtop_segvit_ade20k-512.py --batch 1 8 \\
        --json rows.json

The device is synchronized before and after everything that is timed, so on CUDA the fraction is an upper bound.
Without --checkpoint the weights are random.
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


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config of a pruned model")
    parser.add_argument("--checkpoint", metavar="FILE", help="its weights (default: random ones)")
    parser.add_argument("--images", metavar="FOLDER", help="images for the test pipeline (default: synthetic ones)")
    parser.add_argument("--shape", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="size of synthetic images")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], metavar="N", help="images per batch")
    parser.add_argument("--repeats", type=int, default=9, metavar="N", help="timed repeats (default: 9)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE")
    args = parser.parse_args()
    if args.repeats < 1 or min(args.batch) < 1:
        raise ConfigError("--repeats and --batch must be at least 1")
    return args


@torch.no_grad()
def share(model: BenchmarkModel, repeats: int) -> dict:
    """Return the fields of a row about the time of the reducer's hooks."""
    clock = Clock(model.device)

    def timed(hook):
        def run(*args, **kwargs):
            result = hook(*args, **kwargs)
            if getattr(result, "score_fn", None):  # the state that ``start`` returns
                result.score_fn = clock.watch(result.score_fn, -1)
            return result

        return clock.watch(run)

    with wrapped_hooks(model.model.backbone.reducer, timed):
        shares, totals = clock.shares(model.forward, repeats, warmup=2)
    return dict(
        ms=statistics.median(totals),
        share_of_decision=statistics.median(shares),
        share_of_decision_quartiles=quartiles(shares),
    )


def main() -> None:
    args = parse_args()
    rows = []
    for batch in args.batch:
        settings = BenchmarkSettings(device=args.device, images=args.images, repeats=args.repeats)
        case = BenchmarkCase(args.config, args.checkpoint, batch=batch, shape=args.shape and tuple(args.shape))
        model = BenchmarkModel(case, settings)
        if model.kept == "dense":
            raise ConfigError(f"config {args.config} has no reducer: give one of a pruned model")
        found = share(model, args.repeats)
        rows.append(
            row(
                case=f"deciding, {type(model.model.backbone.reducer).__name__}",
                config=args.config,
                checkpoint=args.checkpoint,
                weights="trained" if args.checkpoint else "random",
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
