"""Find the value of a method's cost parameter (r, keep ratio, ratio_scale) that reaches a target cost on images.

    python tools/analysis_tools/calibrate.py configs/deit/evit_deit-s.py --images data/imagenet/val --flops-ratio 0.6 \\
        --out configs/deit/evit_deit-s_0.6.py
    python tools/analysis_tools/calibrate.py CONFIG --checkpoint FILE --images FOLDER --speedup 1.4 --device cuda
    python tools/analysis_tools/calibrate.py configs/deit/ppt_deit-s_r50.py --checkpoint FILE --images FOLDER \\
        --pool-share 0.5        # PPT's threshold, which selects pruning or pooling and does not change the cost

--out writes a config that inherits the given one and sets this value. GMACs are per image; one multiply-add counts as
1. Without a checkpoint the weights are random, and methods that need training keep exactly the ratios of the config.
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

# Target -> the measured field that it is compared with, and its unit.
TARGETS = dict(
    gmacs=("gmacs", "GMACs per image"),
    flops_ratio=("flops_ratio", "of the dense model's GMACs"),
    keep_ratio=("keep_ratio", "of the tokens in pruned blocks"),
    ms=("ms_median", "ms per batch"),
    speedup=("speedup_vs_dense", "times faster than the dense model"),
    pool_share=("pool_share", "of the decisions pool tokens"),
)
SHARES = ("flops_ratio", "keep_ratio", "pool_share")
TIMED = ("ms", "speedup")
TOLERANCE = 0.001  # relative to the target
TIME_TOLERANCE = 0.01
TIME_STEPS = 10  # more steps would follow the noise


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config of a pruned model")
    parser.add_argument("--checkpoint", metavar="FILE", help="its weights (default: random)")
    parser.add_argument("--images", metavar="FOLDER", help="images, read by the test pipeline (default: synthetic)")
    parser.add_argument("--number", type=int, default=8, metavar="N", help="number of images (default: 8)")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--gmacs", type=float, metavar="X", help="10^9 multiply-adds per image")
    target.add_argument(
        "--flops-ratio", type=float, metavar="X", help="GMACs relative to the model without its reducer"
    )
    target.add_argument("--keep-ratio", type=float, metavar="X", help="mean fraction of tokens kept in pruned blocks")
    target.add_argument("--ms", type=float, metavar="X", help="measured milliseconds per batch")
    target.add_argument(
        "--speedup", type=float, metavar="X", help="measured speedup over the model without its reducer"
    )
    target.add_argument("--pool-share", type=float, metavar="X", help="fraction of PPT's decisions that pool tokens")
    parser.add_argument(
        "--cost-param",
        metavar="NAME",
        help="argument of the reducer to search (default: the method's own cost parameter)",
    )
    parser.add_argument(
        "--part", choices=("net", "backbone"), default="net", help="what is counted and timed (default: net)"
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images per batch (default: 1)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--repeats", type=int, metavar="N", help="timed runs of each model (default: 7; on CUDA 30)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", metavar="FILE.py", help="write the config there")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    parser.add_argument("--json", metavar="FILE", help="write the result row there")
    args = parser.parse_args()
    args.target = next(name for name in TARGETS if getattr(args, name) is not None)
    args.wanted = getattr(args, args.target)
    args.repeats = args.repeats if args.repeats is not None else 30 if args.device.startswith("cuda") else 7
    return args


def check(args):
    """Raise ConfigError for options that do not fit together, before any model is built."""
    option = "--" + args.target.replace("_", "-")
    if not (math.isfinite(args.wanted) and args.wanted > 0) or (args.target in SHARES and args.wanted > 1):
        most = ", at most 1" if args.target in SHARES else ""
        raise ConfigError(f"{option} {args.wanted:g}: give a number greater than 0{most}")
    if args.number < 1 or args.batch < 1 or args.repeats < 1:
        raise ConfigError("--number, --batch and --repeats must be at least 1")
    if args.target == "pool_share" and args.cost_param not in (None, "threshold"):
        raise ConfigError(f"--pool-share searches the threshold: leave --cost-param {args.cost_param} out")
    if args.out:
        check_target(args.out, args.config, args.force)


def search(model, cost_param, args):
    """Search the cost parameter for the target."""
    field, unit = TARGETS[args.target]
    tolerance = TIME_TOLERANCE if args.target in TIMED else TOLERANCE

    def cost(position):
        value = cost_param.value(position)
        model.reconfigure(cost_param.name, value)
        measured = measure(model, args)
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
            f"{cost_param.name} of {model.reducer_config['type']}{mode} does not change "
            f"{field}: give another argument with --cost-param"
        ) from None
    except OutOfReach as error:
        least, most = error.reach
        raise ConfigError(
            f"{args.wanted:g} {unit} is out of reach: {cost_param.name} of {model.reducer_config['type']} gives "
            f"{least:.4g} to {most:.4g}{dense_cost(model, args)}"
        ) from None


def measure(model, args):
    """Measure the fields of the target at the model's current setting."""
    if args.target == "pool_share":
        return model.pool_share()
    return model.times(args.repeats) if args.target in TIMED else model.cost()


def quartiles_of(measured, args):
    """Return the quartiles of a target that is timed, else None."""
    if args.target not in TIMED:
        return None
    return measured[TARGETS[args.target][0].removesuffix("_median") + "_quartiles"]


def dense_cost(model, args):
    """Return the dense model's cost for a message, where the target has one."""
    return f"; the dense model has {model.dense['gmacs']:.4g}" if args.target == "gmacs" else ""


def result(model, cost_param, found, args):
    """Return the row of the best position; a timed target is measured again, with twice the repeats."""
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
    """Return the row in words."""
    unit = TARGETS[r["target"]][1]
    found = [f"{r['method']} with {r['cost_param']} = {r['value']}: {r['reached']:.4g} {unit}, wanted {r['wanted']:g}"]
    if not r["met"] and r["target"] in TIMED:
        found.append("the final measurement differs from the search: use more --repeats or a less busy machine")
    elif not r["met"]:
        found.append(
            "the nearest values on either side: "
            + ", ".join(f"{side['value']} gives {side['reached']:.4g}" for side in r["neighbours"])
        )
    found.append(
        f"{r['gmacs']:.4g} +- {r['gmacs_std']:.2g} GMACs per image, "
        f"{r['flops_ratio']:.3f} of the dense model's {r['dense_gmacs']:.4g}; {r['keep_ratio']:.1%} +- "
        f"{r['keep_ratio_std']:.1%} of the tokens kept in pruned blocks; mean +- standard deviation over "
        f"{r['num_images']} images; part: {r['part']}"
    )
    if "ms_median" in r:
        low, high = r["ms_quartiles"]
        slow, fast = r["speedup_vs_dense_quartiles"]
        found.append(
            f"{r['ms_median']:.4g} ms per batch of {r['batch']} on {r['device']}, quartiles {low:.4g} to "
            f"{high:.4g}; {r['speedup_vs_dense']:.3f} times faster than dense, quartiles {slow:.3f} to "
            f"{fast:.3f}; all of these include the noise of the machine"
        )
    if r["weights"] == "random":
        found.append(
            f"without a checkpoint the weights are random; tokens kept: {r['keep']}"
            + (
                "; the threshold of a trained model must be searched with its checkpoint"
                if r["target"] == "pool_share"
                else ""
            )
        )
    return found


def main():
    args = parse_args()
    check(args)
    settings = BenchmarkSettings(
        part=args.part,
        device=args.device,
        precision=args.precision,
        images=args.images,
        repeats=-(-args.number // args.batch),
    )
    model = Calibration(BenchmarkCase(args.config, args.checkpoint, batch=args.batch), settings)
    if args.target == "pool_share":
        cost_param = pool_threshold(model.reducer_config, model.grid_tokens)
    else:
        cost_param = cost_param_of(model.reducer_config, args.cost_param, model.grid_tokens)
    print(f"{args.config}: searching {cost_param.words}", flush=True)
    found = result(model, cost_param, search(model, cost_param, args), args)
    print("\n".join(["", *(f"{sentence}." for sentence in sentences(found))]))
    if args.out:
        images = f"images of {args.images}" if args.images else "synthetic images"
        made = [found["command"], f"{sentences(found)[0]}; {found['num_images']} {images}, {found['weights']} weights."]
        write_derived_config(args.out, args.config, made, cost_param.name, found["value"])
        print(f"wrote {args.out}")
    if args.json:
        write_json(args.json, found)


if __name__ == "__main__":
    run(main)
