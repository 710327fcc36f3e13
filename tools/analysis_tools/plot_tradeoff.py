"""What a method's cost parameter buys at test time: scores against time and against operations of one pruned model, at several
values of the cost parameter (SViT: the scale of its keep probabilities), without any training.

    python tools/analysis_tools/plot_tradeoff.py CONFIG CHECKPOINT --values 0.4 0.6 0.8 1.0 1.2 \\
        --dense CONFIG=CHECKPOINT --images data/coco/val2017 --out work_dirs/tradeoff

Scores (AP, top-1, mIoU) come from tools/test.py on the config's test data; time (in turns with all others) and
operations from the first images of --images. Writes rows.json and tradeoff.png.
"""

import argparse
import json
from pathlib import Path

import torch

from mmcv_custom.benchmark import PARTS, BenchmarkCase, BenchmarkSettings, measure
from mmcv_custom.cli.launch import add_common_options, load_config, run
from mmcv_custom.cli.subprocess_tools import ROOT, call
from mmcv_custom.errors import CheckpointError, ConfigError
from mmcv_custom.results import write_json
from token_pruning.reducer import find_method

# Of each task, what its evaluator gives under which name; the first two are drawn.
METRICS = [
    {
        "box_AP": "coco/bbox_mAP",
        "mask_AP": "coco/segm_mAP",
        "box_AP50": "coco/bbox_mAP_50",
        "mask_AP50": "coco/segm_mAP_50",
    },
    {"top1": "accuracy/top1"},
    {"mIoU": "mIoU"},
]
VALUES = dict(ratio_scale=[0.4, 0.6, 0.8, 1.0, 1.2], keep_ratio=[0.3, 0.5, 0.7, 0.9])
PANELS = {"ms_median": "ms per image", "gmacs": "GMACs per image (multiply-add = 2)"}
LINES = (("#0072B2", "o"), ("#D55E00", "s"))  # of Okabe and Ito's palette


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="of a pruned model")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument(
        "--cost-param", metavar="NAME", help="argument of the reducer (default: the method's own cost parameter)"
    )
    parser.add_argument(
        "--values",
        "--scales",
        nargs="+",
        type=_number,
        metavar="V",
        help="of the cost parameter (default for ratio_scale: 0.4 0.6 0.8 1.0 1.2; for keep_ratio: 0.3 0.5 0.7 0.9)",
    )
    parser.add_argument("--dense", metavar="CONFIG=CHECKPOINT", help="the dense model, for comparison")
    parser.add_argument("--images", required=True, metavar="FOLDER", help="images to time and count on")
    parser.add_argument("--timed", type=int, default=20, metavar="N", help="how many of them (default: 20)")
    parser.add_argument("--part", choices=PARTS[:2], default="net", help="what is timed (default: net)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", default="work_dirs/tradeoff", metavar="DIR", help="default: work_dirs/tradeoff")
    return parser.parse_args()


def _number(text):
    return int(text) if text.isdecimal() else float(text)


def points(args):
    """The cases, the dense one first: it is what the others' speed is a ratio to."""
    options = argparse.ArgumentParser()
    add_common_options(options)
    reducer = load_config(args.config, options.parse_args([])).model.backbone.get("reducer")
    if reducer is None:
        raise ConfigError(f"config {args.config} has no reducer: give one of a pruned model")
    cost_param = args.cost_param or find_method(reducer["type"]).cost_param[0]
    values = args.values or VALUES.get(cost_param, [])
    if not values or any(not value > 0 for value in values) or args.timed < 2:
        raise ConfigError(
            f"--values of {cost_param} must be given and greater than 0, and --timed at least 2 (quartiles need them)"
        )
    found = [
        BenchmarkCase(args.config, args.checkpoint, "checkpoint", cost_param=(cost_param, value))
        for value in sorted(set(values))
    ]
    if args.dense:
        config, _, checkpoint = args.dense.partition("=")
        found.insert(0, BenchmarkCase(config, checkpoint))
    for case in found:
        if not Path(case.checkpoint).is_file():
            raise CheckpointError(f"checkpoint {case.checkpoint!r} of {case.config} does not exist: check the path")
    return found


def evaluate(case, folder):
    """The scores of one case through tools/test.py."""
    name = "dense" if case.cost_param is None else "{}_{}".format(*case.cost_param)
    scores = folder / f"{name}.json"
    command = [ROOT / "tools/test.py", case.config, case.checkpoint, "--work-dir", folder / name, "--scores", scores]
    if case.cost_param:
        command += ["--cfg-options", "model.backbone.reducer.{}={}".format(*case.cost_param)]
    call(*command)
    found = json.loads(scores.read_text())
    for metrics in METRICS:
        if all(metric in found for metric in metrics.values()):
            return {name: found[metric] for name, metric in metrics.items()}
    raise ConfigError(
        f"the test_evaluator of {case.config} gives {', '.join(found)}: use CocoMetric on bbox and segm, "
        "Accuracy, or IoUMetric"
    )


def drawn(r):
    """Names of a row's scores that are drawn."""
    return next([*metrics][:2] for metrics in METRICS if metrics.keys() <= r.keys())


def plot(rows, file):
    """Two panels: scores against time and against operations; the dense model is the open marker."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    pruned = [r for r in rows if r["cost_param"] is not None]
    for axes, (field, label) in zip(panels, PANELS.items(), strict=True):
        for metric, (colour, marker) in zip(drawn(rows[0]), LINES, strict=False):
            words = metric.replace("_", " ")
            axes.plot([r[field] for r in pruned], [r[metric] for r in pruned], color=colour, marker=marker, label=words)
            for r in pruned:
                axes.annotate(
                    f"{r['cost_value']:g}",
                    (r[field], r[metric]),
                    xytext=(0, 6),
                    ha="center",
                    textcoords="offset points",
                    fontsize=8,
                )
            for r in rows:
                if r["cost_param"] is None:
                    axes.plot(
                        r[field],
                        r[metric],
                        color=colour,
                        marker=marker,
                        markersize=10,
                        fillstyle="none",
                        linestyle="none",
                        label=f"{words}, dense",
                    )
        if field == "ms_median":
            label = f"{label} ({rows[0]['part']}, {rows[0]['device']})"
        axes.set(xlabel=label)
        axes.grid(alpha=0.3)
        axes.margins(y=0.1)
    panels[0].set(ylabel=", ".join(drawn(rows[0])).replace("_", " "))
    panels[1].legend()
    figure.suptitle(f"{pruned[0]['model']}: the numbers are {pruned[0]['cost_param']}")
    figure.savefig(file, dpi=150)


def main():
    args = parse_args()
    cases, folder = points(args), Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    setting = BenchmarkSettings(part=args.part, device=args.device, images=args.images, repeats=args.timed)
    print("Timing all on the same images, in turns ...", flush=True)
    rows = measure(cases, setting)
    rows = [{**r, **evaluate(case, folder)} for r, case in zip(rows, cases, strict=True)]
    write_json(folder / "rows.json", rows)
    plot(rows, folder / "tradeoff.png")
    for r in rows:
        name = "dense" if r["cost_param"] is None else f"{r['cost_param']} {r['cost_value']:g}"
        scores = ", ".join(f"{metric.replace('_', ' ')} {r[metric]:.4g}" for metric in drawn(r))
        print(
            f"{name:>18}: {scores}, kept {r['keep_ratio']:.0%}, "
            f"{r['gmacs']:.2f} GMACs, {r['ms_median']:.1f} ms, {r['speedup_vs_first']:.2f}x the first"
        )


if __name__ == "__main__":
    run(main)
