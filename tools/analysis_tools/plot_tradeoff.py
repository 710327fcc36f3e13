"""Plot scores of a pruned model against latency and GMACs at several values of its cost parameter, without training.

    python tools/analysis_tools/plot_tradeoff.py CONFIG CHECKPOINT --values 0.4 0.6 0.8 1.0 1.2 \\
        --dense CONFIG=CHECKPOINT --images data/coco/val2017 --out work_dirs/tradeoff

The cost parameter is the method's own (SViT: the scale of its keep probabilities) or --cost-param. Scores (AP, top-1,
mIoU) are those of tools/test.py on the config's test data; latency (all models interleaved) and GMACs are measured on
the first images of --images. Writes rows.json and tradeoff.png.
"""

import argparse
import inspect
from pathlib import Path

import torch

from mmcv_custom.benchmark import PARTS, BenchmarkCase, BenchmarkSettings, measure
from mmcv_custom.checkpoint import find_checkpoint
from mmcv_custom.cli.launch import add_common_options, load_config, read_config, run
from mmcv_custom.cli.subprocess_tools import test
from mmcv_custom.errors import CheckpointError, ConfigError
from mmcv_custom.files import replacing
from mmcv_custom.results import write_json
from mmcv_custom.tasks import task_of
from token_pruning.reducer import find_method

# Default values of a cost parameter, relative to its value in the config.
FACTORS = (0.4, 0.6, 0.8, 1.0, 1.2)
PANELS = {"ms_median": "ms per image", "gmacs": "GMACs per image"}
LINES = (("#0072B2", "o"), ("#D55E00", "s"))  # Okabe and Ito's palette


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config of a pruned model")
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
        help="values of the cost parameter (default: 0.4, 0.6, 0.8, 1 and 1.2 times the config's)",
    )
    parser.add_argument("--dense", metavar="CONFIG=CHECKPOINT", help="the dense model, for comparison")
    parser.add_argument("--images", required=True, metavar="FOLDER", help="images for latency and GMACs")
    parser.add_argument("--timed", type=int, default=20, metavar="N", help="number of timed images (default: 20)")
    parser.add_argument("--part", choices=PARTS[:2], default="net", help="what is timed (default: net)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", default="work_dirs/tradeoff", metavar="DIR", help="default: work_dirs/tradeoff")
    return parser.parse_args()


def _number(text):
    return int(text) if text.isdecimal() else float(text)


def default_values(reducer, cost_param):
    """Return values around the config's value of the cost parameter, or an empty list if that is not a number."""
    method = find_method(reducer["type"])
    parameter = inspect.signature(method).parameters.get(cost_param)
    value = reducer.get(cost_param, parameter.default if parameter else None)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return []
    scaled = [round(factor * value, 4) for factor in FACTORS]
    name, low, high = method.cost_param
    if name == cost_param:
        scaled = [min(max(one, low), high) for one in scaled]
    return [round(one) for one in scaled] if isinstance(value, int) else scaled


def cases_of(args):
    """Return the cases; the dense model is the first, to which all speedups relate."""
    options = argparse.ArgumentParser()
    add_common_options(options)
    reducer = load_config(args.config, options.parse_args([])).model.backbone.get("reducer")
    if reducer is None:
        raise ConfigError(f"config {args.config} has no reducer: give one of a pruned model")
    cost_param = args.cost_param or find_method(reducer["type"]).cost_param[0]
    values = args.values or default_values(reducer, cost_param)
    if not values or any(not value > 0 for value in values) or args.timed < 1:
        raise ConfigError(f"--values of {cost_param} must be given and greater than 0, and --timed at least 1")
    found = [
        BenchmarkCase(args.config, args.checkpoint, "checkpoint", cost_param=(cost_param, value))
        for value in sorted(set(values))
    ]
    if args.dense:
        config, _, checkpoint = args.dense.partition("=")
        found.insert(0, BenchmarkCase(config, checkpoint))
    for case in found:
        if not case.checkpoint:
            raise CheckpointError(f"--dense needs a checkpoint of {case.config}: CONFIG=CHECKPOINT")
        find_checkpoint(case.checkpoint)
    return found


def evaluate(case, folder):
    """Evaluate one case with tools/test.py and return its scores under the row fields of its task."""
    name = "dense" if case.cost_param is None else "{}_{}".format(*case.cost_param)
    options = ["model.backbone.reducer.{}={}".format(*case.cost_param)] if case.cost_param else []
    return test(case.config, case.checkpoint, folder / name, folder / f"{name}.json", options)


def scores_of(config):
    """Return row field -> score of the evaluator for the task of a config."""
    return task_of(read_config(config)).metric.scores


def plot(rows, fields, file):
    """Plot the scores ``fields`` against latency and against GMACs; the dense model is the open marker."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    pruned = [r for r in rows if r["cost_param"] is not None]
    for axes, (field, label) in zip(panels, PANELS.items(), strict=True):
        for metric, (colour, marker) in zip(fields, LINES, strict=False):
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
    panels[0].set(ylabel=", ".join(fields).replace("_", " "))
    panels[1].legend()
    figure.suptitle(f"{pruned[0]['model']}: the labels are values of {pruned[0]['cost_param']}")
    with replacing(file) as part:
        figure.savefig(part, dpi=150)


def main():
    args = parse_args()
    cases, folder = cases_of(args), Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    settings = BenchmarkSettings(part=args.part, device=args.device, images=args.images, repeats=args.timed)
    print("Timing all models on the same images, interleaved ...", flush=True)
    rows = measure(cases, settings)
    rows = [{**r, **evaluate(case, folder)} for r, case in zip(rows, cases, strict=True)]
    write_json(folder / "rows.json", rows)
    plotted = list(scores_of(args.config))[:2]
    plot(rows, plotted, folder / "tradeoff.png")
    for r in rows:
        name = "dense" if r["cost_param"] is None else f"{r['cost_param']} {r['cost_value']:g}"
        scores = ", ".join(f"{metric.replace('_', ' ')} {r[metric]:.4g}" for metric in plotted)
        print(
            f"{name:>18}: {scores}, kept {r['keep_ratio']:.0%}, "
            f"{r['gmacs']:.2f} GMACs, {r['ms_median']:.1f} ms, {r['speedup_vs_first']:.2f}x the first"
        )


if __name__ == "__main__":
    run(main)
