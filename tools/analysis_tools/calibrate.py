"""Find the setting of a method's cost parameter (r, keep ratio, ratio_scale) that hits a wanted cost on images, and write it as
a config that inherits the given one.

    python tools/analysis_tools/calibrate.py configs/deit/evit_deit-s.py --images data/imagenet/val --flops-ratio 0.6 \\
        --out configs/deit/evit_deit-s_0.6.py
    python tools/analysis_tools/calibrate.py CONFIG --checkpoint FILE --images FOLDER --speedup 1.4 --device cuda
    python tools/analysis_tools/calibrate.py configs/deit/ppt_deit-s_r50.py --checkpoint FILE --images FOLDER \\
        --pool-share 0.5        # PPT's threshold, which changes what is done with tokens, not the cost

A multiply-add is two FLOPs or one MAC, counted per image. Without a checkpoint the weights are random and the learned
methods keep exactly their ratios.
"""

import argparse
import math

import torch

from mmcv_custom.benchmark import PRECISIONS, BenchmarkCase, BenchmarkSettings
from mmcv_custom.calibration.derived_config import check_target, write_derived_config
from mmcv_custom.calibration.model import Calibration
from mmcv_custom.calibration.search import Flat, OutOfReach, bisect
from mmcv_custom.calibration.search_space import cost_param_of, pool_threshold
from mmcv_custom.cli.launch import run
from mmcv_custom.errors import ConfigError
from mmcv_custom.results import row, write_json

# Target: the measured field that is to reach it, and its unit.
TARGETS = dict(
    gmacs=("gmacs", "GMACs an image"),
    flops_ratio=("flops_ratio", "of the dense model's FLOPs"),
    keep_ratio=("keep_ratio", "of the tokens in pruned blocks"),
    ms=("ms_median", "ms a batch"),
    speedup=("speedup_vs_dense", "times faster than the dense model"),
    pool_share=("pool_share", "of the decisions pool"),
)
SHARES = ("flops_ratio", "keep_ratio", "pool_share")
TIMED = ("ms", "speedup")
TOLERANCE = 0.001  # of the target
TIME_TOLERANCE = 0.01
TIME_STEPS = 10  # more would follow the noise


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="of a pruned model")
    parser.add_argument("--checkpoint", metavar="FILE", help="its weights (default: random ones)")
    parser.add_argument("--images", metavar="FOLDER", help="images, through the test pipeline (default: synthetic)")
    parser.add_argument("--number", type=int, default=8, metavar="N", help="how many of them (default: 8)")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--gmacs", type=float, metavar="X", help="10^9 multiply-adds an image")
    target.add_argument("--flops-ratio", type=float, metavar="X", help="of the same model without its reducer")
    target.add_argument("--keep-ratio", type=float, metavar="X", help="mean fraction of tokens in pruned blocks")
    target.add_argument("--ms", type=float, metavar="X", help="measured milliseconds a batch")
    target.add_argument("--speedup", type=float, metavar="X", help="measured, to the same model without its reducer")
    target.add_argument("--pool-share", type=float, metavar="X", help="of PPT's decisions, by its threshold")
    parser.add_argument(
        "--cost-param", metavar="NAME", help="argument of the reducer to turn (default: the method's own)"
    )
    parser.add_argument(
        "--part", choices=("net", "backbone"), default="net", help="what is counted and timed (default: net)"
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images at a time (default: 1)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--repeats", type=int, metavar="N", help="turns that are timed (default: 7; on CUDA 30)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", metavar="FILE.py", help="write the config there")
    parser.add_argument("--force", action="store_true", help="over a file that exists")
    parser.add_argument("--json", metavar="FILE", help="write the row there")
    args = parser.parse_args()
    args.target = next(name for name in TARGETS if getattr(args, name) is not None)
    args.wanted = getattr(args, args.target)
    args.repeats = args.repeats if args.repeats is not None else 30 if args.device.startswith("cuda") else 7
    return args


def check(args):
    """End on options that do not go together, before any model is built."""
    option = "--" + args.target.replace("_", "-")
    if not (math.isfinite(args.wanted) and args.wanted > 0) or (args.target in SHARES and args.wanted > 1):
        most = ", at most 1" if args.target in SHARES else ""
        raise ConfigError(f"{option} {args.wanted:g}: give a number greater than 0{most}")
    if args.number < 1 or args.batch < 1 or args.repeats < 2:
        raise ConfigError("--number and --batch must be at least 1, --repeats at least 2 (quartiles need them)")
    if args.target == "pool_share" and args.cost_param not in (None, "threshold"):
        raise ConfigError(f"--pool-share is set by the threshold: leave --cost-param {args.cost_param} out")
    if args.out:
        check_target(args.out, args.config, args.force)


def search(model, cost_param, args):
    """The cost parameter turned until the target is met."""
    field, unit = TARGETS[args.target]
    tolerance = TIME_TOLERANCE if args.target in TIMED else TOLERANCE

    def cost(position):
        value = cost_param.value(position)
        model.reconfigure(cost_param.name, value)
        measured = read(model, args)
        spread = quartiles_of(measured, args)
        spread = f", quartiles {spread[0]:.4g} to {spread[1]:.4g}" if spread else ""
        print(f"  {cost_param.name} = {value}: {measured[field]:.4g} {unit}{spread}", flush=True)
        return measured[field]

    try:
        return bisect(
            cost,
            cost_param.low,
            cost_param.high,
            cost_param.between,
            args.wanted,
            tolerance * args.wanted,
            TIME_STEPS if args.target in TIMED else 40,
        )
    except Flat:
        mode = f" in mode {model.reducer_config['mode']!r}" if "mode" in model.reducer_config else ""
        raise ConfigError(
            f"{cost_param.name} of {model.reducer_config['type']}{mode} does not change how many {unit}: turn another with --cost-param"
        ) from None
    except OutOfReach as error:
        least, most = error.reach
        raise ConfigError(
            f"{args.wanted:g} {unit} is out of reach: {cost_param.name} of {model.reducer_config['type']} makes it "
            f"{least:.4g} to {most:.4g}{dense(model, args)}"
        ) from None


def read(model, args):
    """The fields of the target, at the model's present setting."""
    if args.target == "pool_share":
        return model.pool_share()
    return model.times(args.repeats) if args.target in TIMED else model.cost()


def quartiles_of(measured, args):
    """Of a target that is timed, else None."""
    return (
        measured[dict(ms="ms_quartiles", speedup="speedup_vs_dense_quartiles")[args.target]]
        if args.target in TIMED
        else None
    )


def dense(model, args):
    """The dense model's cost, where the target is one."""
    gmacs = model.dense["gmacs"]
    known = dict(gmacs=f"{gmacs:.4g}")
    return f"; the dense model has {known[args.target]}" if args.target in known else ""


def result(model, cost_param, found, args):
    """The row of the best position; what is timed, is timed once more and for longer."""
    value = cost_param.value(found.best)
    model.reconfigure(cost_param.name, value)
    fields = model.cost() | (model.pool_share() if args.target == "pool_share" else {})
    if args.target in TIMED:
        fields |= model.times(2 * args.repeats)
    field, _ = TARGETS[args.target]
    reached = fields[field]
    low, high = quartiles_of(fields, args) or (reached, reached)
    tolerance = args.wanted * (TIME_TOLERANCE if args.target in TIMED else TOLERANCE)
    met = low - tolerance <= args.wanted <= high + tolerance
    sides = [dict(value=cost_param.value(x), reached=found.costs[x]) for x in (found.below, found.above)]
    return row(
        config=args.config,
        checkpoint=args.checkpoint,
        weights="trained" if args.checkpoint else "random",
        keep=model.kept,
        method=model.reducer_config["type"],
        cost_param=cost_param.name,
        value=value,
        target=args.target,
        wanted=args.wanted,
        reached=reached,
        met=met,
        neighbours=[] if met else sides,
        images=args.images,
        num_images=len(model.data) * args.batch,
        part=args.part,
        batch=args.batch,
        device=args.device,
        precision=args.precision,
        dense_gmacs=model.dense["gmacs"],
        **fields,
    )


def sentences(r):
    """The row for people."""
    unit = TARGETS[r["target"]][1]
    found = [f"{r['method']} with {r['cost_param']} = {r['value']}: {r['reached']:.4g} {unit}, wanted {r['wanted']:g}"]
    if not r["met"] and r["target"] in TIMED:
        found.append("measured once more it is another than in the search: use more --repeats on a quieter machine")
    elif not r["met"]:
        found.append(
            "the nearest on either side: "
            + ", ".join(f"{side['value']} makes it {side['reached']:.4g}" for side in r["neighbours"])
        )
    found.append(
        f"{r['gmacs']:.4g} +- {r['gmacs_std']:.2g} GMACs an image, "
        f"{r['flops_ratio']:.3f} of the dense model's {r['dense_gmacs']:.4g}; {r['keep_ratio']:.1%} +- "
        f"{r['keep_ratio_std']:.1%} of the tokens in pruned blocks; +- over images ({r['num_images']}), {r['part']}"
    )
    if "ms_median" in r:
        low, high = r["ms_quartiles"]
        slow, fast = r["speedup_vs_dense_quartiles"]
        found.append(
            f"{r['ms_median']:.4g} ms a batch of {r['batch']} on {r['device']}, quartiles {low:.4g} to "
            f"{high:.4g}; {r['speedup_vs_dense']:.3f} times faster than dense, quartiles {slow:.3f} to "
            f"{fast:.3f}; a machine's noise is in all of these"
        )
    if r["weights"] == "random":
        found.append(
            f"without a checkpoint the weights are random, tokens kept: {r['keep']}"
            + ("; a threshold for trained weights needs them" if r["target"] == "pool_share" else "")
        )
    return found


def main():
    args = parse_args()
    check(args)
    setting = BenchmarkSettings(
        part=args.part,
        device=args.device,
        precision=args.precision,
        images=args.images,
        repeats=-(-args.number // args.batch),
    )
    model = Calibration(BenchmarkCase(args.config, args.checkpoint, batch=args.batch), setting)
    if args.target == "pool_share":
        cost_param = pool_threshold(model.reducer_config, model.grid_tokens)
    else:
        cost_param = cost_param_of(model.reducer_config, args.cost_param, model.grid_tokens)
    print(f"{args.config}: turning {cost_param.words}", flush=True)
    found = result(model, cost_param, search(model, cost_param, args), args)
    print("\n".join(["", *(f"{sentence}." for sentence in sentences(found))]))
    if args.out:
        images = f"images of {args.images}" if args.images else "synthetic images"
        made = [found["command"], f"{sentences(found)[0]}; {found['images']} {images}, {found['weights']} weights."]
        write_derived_config(args.out, args.config, made, cost_param.name, found["value"])
        print(f"Written to {args.out}.")
    if args.json:
        write_json(args.json, found)


if __name__ == "__main__":
    run(main)
