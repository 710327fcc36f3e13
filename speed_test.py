"""Time models (detectors, segmentors, classifiers), interleaved, and print a table of speed-ups over the dense model.

    python speed_test.py                                      # the four published models, random weights
    python speed_test.py --models configs/mask_rcnn/vit-adapter-t-3x.py=dense.pth \\
        configs/mask_rcnn/svit-adapter-t-0.5x-ftune.py=pruned.pth --images data/coco/val2017 --json rows.json
    python speed_test.py --grow ratio --plot ratio.png        # time of one pruned backbone over the keep ratio

Every repeat runs each model once (A B A B ...), with the device idle before and after. Times are medians; speed-ups are
medians of the ratios of neighbouring measurements (per image), with [quartiles]. A pruned model is compared with the
last dense one before it. GMACs count a multiply-add as 1. "kept" is the mean over the pruned blocks. Progress is shown
on stderr.
"""

import argparse
from dataclasses import fields, replace

import torch

from mmcv_custom.benchmark import (
    PARTS,
    PRECISIONS,
    BenchmarkCase,
    BenchmarkSettings,
    check_device,
    measure,
    notes,
    table,
    write_csv,
)
from mmcv_custom.cli.launch import run
from mmcv_custom.errors import ConfigError
from mmcv_custom.files import replacing
from mmcv_custom.results import write_json

PUBLISHED = [
    f"configs/mask_rcnn/{name}.py"
    for name in ("vit-adapter-t-3x", "svit-adapter-t-0.5x-ftune", "vit-adapter-s-3x", "svit-adapter-s-0.33x-ftune")
]
GROW = {
    "ratio": [n / 10 for n in range(10, 0, -1)],
    "tokens": [2**n for n in range(10, 15)],
    "batch": [2**n for n in range(5)],
}
# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="CONFIG[=CHECKPOINT]",
        help="the others are compared with the first (default: the four published models)",
    )
    parser.add_argument(
        "--part",
        choices=PARTS,
        help="what is timed; net: with post-processing, without preprocessing (default: net; with --grow, backbone)",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images per batch (default: 1)")
    parser.add_argument(
        "--shape",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="size of synthetic images (default: what the model was made for; detectors 800 1344)",
    )
    parser.add_argument("--images", metavar="FOLDER", help="time on real images, through the config's test pipeline")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument(
        "--keep-ratio",
        type=_keep,
        metavar="config|RATIO|checkpoint",
        help="tokens that pruned blocks keep: exactly the config's ratios, exactly keep_ratio=RATIO, or what the "
        "trained selectors select (default: checkpoint where there is one, else config)",
    )
    parser.add_argument("--fuse-conv-bn", action="store_true", help="fold batch norms into convolutions first")
    parser.add_argument("--channels-last", action="store_true", help="convolutions in channels-last memory format")
    parser.add_argument("--compile", action="store_true", help="compile the backbone")
    parser.add_argument("--cuda-graph", action="store_true", help="replay the backbone as CUDA graphs")
    parser.add_argument(
        "--repeats", type=int, metavar="N", help="timed repeats; 1 shows no spread (default: 7; on CUDA 50)"
    )
    parser.add_argument("--warmup", type=int, metavar="N", help="untimed repeats before them (default: 2; on CUDA 10)")
    parser.add_argument(
        "--grow", choices=GROW, help="time as a function of: keep ratio 1 to 0.1, tokens 1k to 16k, batch 1 to 16"
    )
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE, in the order of the models")
    parser.add_argument("--csv", metavar="FILE", help="write the rows to FILE as a table")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the rows")
    args = parser.parse_args()
    cuda = args.device.startswith("cuda")
    args.part = args.part or ("backbone" if args.grow else "net")
    args.repeats = args.repeats if args.repeats is not None else 50 if cuda else 7
    args.warmup = args.warmup if args.warmup is not None else 10 if cuda else 2
    args.models = args.models or (PUBLISHED[1:2] if args.grow else PUBLISHED)
    return args


def _keep(text: str) -> str | float:
    if text in ("config", "checkpoint"):
        return text
    try:
        ratio = float(text)
    except ValueError:
        ratio = 0
    if not 0 < ratio <= 1:
        raise argparse.ArgumentTypeError(f"{text}: write config, checkpoint, or a ratio greater than 0, at most 1")
    return ratio


def check(args: argparse.Namespace) -> None:
    """Raise ConfigError for options that do not go together, before any model is built."""
    device = check_device(args.device)
    wrong = {
        "--repeats and --batch must be at least 1, --warmup at least 0": args.repeats < 1
        or args.batch < 1
        or args.warmup < 0,
        f"--shape {args.shape}: both sides must be at least 32 pixels": args.shape and min(args.shape) < 32,
        "--cuda-graph needs --device cuda": args.cuda_graph and device.type != "cuda",
        "--compile, --cuda-graph and --fuse-conv-bn are for inference, not for --part train-step": args.part
        == "train-step"
        and (args.compile or args.cuda_graph or args.fuse_conv_bn),
        "--part train-step in fp16 would need a gradient scaler: use --precision bf16": args.part == "train-step"
        and args.precision == "fp16",
        "--part train-step samples the kept tokens: leave --keep-ratio and --grow ratio out": args.part == "train-step"
        and (args.keep_ratio is not None or args.grow == "ratio"),
        f"--grow {args.grow} generates its own images: leave --images out": args.grow and args.images,
        "--grow ratio sets the ratios itself: leave --keep-ratio out": args.grow == "ratio" and args.keep_ratio,
        f"--plot {args.plot}: give a name that ends in .png": args.plot and not args.plot.endswith(".png"),
    }
    for sentence, found in wrong.items():
        if found:
            raise ConfigError(sentence)


def cases(args: argparse.Namespace) -> list[BenchmarkCase]:
    """Return the cases to measure; with ``--grow``, every model at every point."""
    found = []
    for model in args.models:
        config, _, checkpoint = model.partition("=")
        shape = args.shape and tuple(args.shape)
        found.append(BenchmarkCase(config, checkpoint or None, args.keep_ratio, batch=args.batch, shape=shape))
    return [_grown(case, args.grow, point) for case in found for point in GROW[args.grow]] if args.grow else found


def _grown(case: BenchmarkCase, what: str, point: float) -> BenchmarkCase:
    if what == "ratio":
        return replace(case, keep=point)
    if what == "batch":
        return replace(case, batch=point)
    rows = 2 * round(point**0.5 / 2)  # even numbers of tokens: sides are then multiples of 32 pixels
    return replace(case, shape=(16 * rows, 32 * round(point / rows / 2)))


def plot(path: str, rows: list[dict], grow: str | None) -> None:
    """Draw one bar per model, with ``grow`` one line per model; whiskers and bands are quartiles."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    names = list(dict.fromkeys(r["model"] for r in rows))
    if grow:
        field = {"ratio": "keep_ratio", "tokens": "positions", "batch": "batch"}[grow]
        for name, colour in zip(names, COLOURS * len(names), strict=False):
            own = [r for r in rows if r["model"] == name]
            x = [r[field] for r in own]
            axes.plot(x, [r["ms_per_image"] for r in own], "o-", color=colour, label=name)
            axes.fill_between(
                x, *([r["ms_quartiles"][i] / r["batch"] for r in own] for i in (0, 1)), color=colour, alpha=0.25
            )
        if grow != "ratio":
            axes.set_xscale("log", base=2)
        axes.set(
            xlabel=dict(
                ratio="fraction of tokens kept in pruned blocks",
                tokens="tokens per image",
                batch="images per batch",
            )[grow],
            ylabel=f"ms per image ({rows[0]['part']})",
        )
        axes.set_ylim(bottom=0)
        axes.legend()
    else:
        ms = [r["ms_median"] for r in rows]
        spread = [[abs(m - r["ms_quartiles"][i]) for m, r in zip(ms, rows, strict=True)] for i in (0, 1)]
        axes.barh(range(len(rows)), ms, xerr=spread, color=COLOURS[0], capsize=3)
        faster = [r.get("speedup_vs_dense", r["speedup_vs_first"]) for r in rows]
        axes.set_yticks(range(len(rows)), [f"{r['model']}\n{f:.2f}x" for r, f in zip(rows, faster, strict=True)])
        axes.invert_yaxis()
        axes.set(xlabel=f"ms ({rows[0]['part']}, batch of {rows[0]['batch']}, {rows[0]['precision']})")
    with replacing(path) as part:
        figure.savefig(part, dpi=150)


def main() -> None:
    args = parse_args()
    check(args)
    settings = BenchmarkSettings(**{f.name: getattr(args, f.name) for f in fields(BenchmarkSettings)})
    rows = measure(cases(args), settings)
    print("\n".join(["", *table(rows), "", *(f"- {note}." for note in notes(rows))]))
    if args.json:
        write_json(args.json, rows)
    if args.csv:
        write_csv(args.csv, rows)
    if args.plot:
        plot(args.plot, rows, args.grow)


if __name__ == "__main__":
    run(main)
