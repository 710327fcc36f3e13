"""Count what a model computes on images, in GMACs per image: mean and standard deviation, by part and by operator.

    python tools/analysis_tools/get_flops.py configs/mask_rcnn/vit-adapter-t-3x.py
    python tools/analysis_tools/get_flops.py CONFIG --checkpoint FILE --images data/coco/val2017 --number 100

One multiply-add counts as 1. The part "reducer" is what a method computes to select tokens. Not counted: elementwise
operations, norms, softmax, resizing, RoIAlign and NMS. The count of the ViT blocks is compared with the closed formula
on the tokens they ran on; where they differ by more than 1 %, the exit code is 1.
"""

import argparse
import statistics
import sys

import torch

from mmcv_custom.benchmark import BenchmarkCase, BenchmarkSession, BenchmarkSettings, counted
from mmcv_custom.benchmark.flops import PARTS
from mmcv_custom.cli.launch import run
from mmcv_custom.errors import ConfigError
from mmcv_custom.results import row, write_json

TOLERANCE = 0.01
GMAC = 2e9  # FLOPs, which torch counts


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", metavar="CONFIG")
    parser.add_argument(
        "--checkpoint",
        nargs="+",
        metavar="FILE",
        help="weights, one file per config (default: random, keeping exactly the ratios of the config)",
    )
    parser.add_argument(
        "--images", metavar="FOLDER", help="images to count on, read by the test pipeline (default: synthetic)"
    )
    parser.add_argument("--number", type=int, default=20, metavar="N", help="number of images (default: 20)")
    parser.add_argument(
        "--shape",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="size of the synthetic images (default: the model's own input size; detectors: 800 1344)",
    )
    parser.add_argument("--part", choices=("net", "backbone"), default="net", help="what is counted (default: net)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images per batch (default: 1)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", metavar="FILE", help="write the result rows there")
    return parser.parse_args()


def check(args):
    """Raise ConfigError for options that do not fit together."""
    if args.checkpoint and len(args.checkpoint) != len(args.configs):
        raise ConfigError(
            f"--checkpoint has {len(args.checkpoint)} files for {len(args.configs)} configs: give one per config"
        )
    if args.number < 1 or args.batch < 1 or min(args.shape or [32]) < 32:
        raise ConfigError("--number and --batch must be at least 1, both sides of --shape at least 32 pixels")


def count(config, checkpoint, args):
    """Return the row of one model."""
    repeats = -(-args.number // args.batch)
    settings = BenchmarkSettings(part=args.part, device=args.device, images=args.images, repeats=repeats)
    session = BenchmarkSession(
        BenchmarkCase(config, checkpoint, batch=args.batch, shape=args.shape and tuple(args.shape)), settings
    )
    counts, size = session.counts, args.batch
    gmacs = {part: [c.parts[part] / size / GMAC for c in counts] for part in PARTS}
    operators = {
        name: statistics.mean(c.operators.get(name, 0) for c in counts) / size / GMAC
        for name in sorted({name for c in counts for name in c.operators})
    }
    blocks, formula = (sum(n) for n in zip(*((c.parts["blocks"], c.formula) for c in counts), strict=True))
    return row(
        config=config,
        checkpoint=checkpoint,
        keep=session.kept,
        images=args.images,
        part=args.part,
        batch=size,
        num_images=len(counts) * size,
        **counted(counts, session.model.backbone),
        gmacs_by_part={part: statistics.mean(values) for part, values in gmacs.items()},
        gmacs_by_part_std={part: statistics.pstdev(values) for part, values in gmacs.items()},
        gmacs_by_operator=operators,
        formula_gmacs=formula / len(counts) / size / GMAC,
        formula_deviation=blocks / formula - 1,
    )


def show(r):
    """Print a row."""
    pruned = f"tokens kept: {r['keep']}, {r['keep_ratio']:.0%} in pruned blocks"
    print(
        f"\n{r['config']}: {r['gmacs']:.2f} GMACs per image (a multiply-add is 1), standard deviation "
        f"{r['gmacs_std']:.2f} over {r['num_images']} images in batches of {r['batch']}; "
        f"{'no token is pruned' if r['keep'] == 'dense' else pruned}"
    )
    for part in PARTS:
        print(f"  {part:<18}{r['gmacs_by_part'][part]:10.3f} +- {r['gmacs_by_part_std'][part]:.3f}")
    for name, value in sorted(r["gmacs_by_operator"].items(), key=lambda item: -item[1]):
        print(f"  {name:<55}{value:10.3f}")
    print(f"  blocks by the closed formula: {r['formula_gmacs']:.3f}, counted {r['formula_deviation']:+.3%}")


def main():
    args = parse_args()
    check(args)
    rows = []
    for config, checkpoint in zip(args.configs, args.checkpoint or [None] * len(args.configs), strict=True):
        rows.append(count(config, checkpoint, args))
        show(rows[-1])
    if args.json:
        write_json(args.json, rows)
    if any(abs(r["formula_deviation"]) > TOLERANCE for r in rows):
        sys.exit(f"get_flops.py: the count and the closed formula differ by more than {TOLERANCE:.0%}")


if __name__ == "__main__":
    run(main)
