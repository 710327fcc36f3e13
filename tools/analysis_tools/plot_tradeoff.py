"""What the dial at test time buys: AP against time and against operations of one pruned detector, at several scales of
its keep probabilities, without any training.

    python tools/analysis_tools/plot_tradeoff.py CONFIG CHECKPOINT --scales 0.4 0.6 0.8 1.0 1.2 \\
        --dense CONFIG=CHECKPOINT --images data/coco/val2017 --out work_dirs/tradeoff

AP comes from tools/test.py on the config's test data; time (in turns with all others) and operations from the first
pictures of --images. Writes rows.json and tradeoff.png.
"""

import argparse
import json
from pathlib import Path

import torch

from mmcv_custom.errors import CheckpointError, ConfigError
from mmcv_custom.launch import run
from mmcv_custom.speed import PARTS, Case, Setting, measure
from mmcv_custom.steps import call
from ops.results import write_json

ROOT = Path(__file__).resolve().parents[2]
METRICS = {"box_AP": "coco/bbox_mAP", "box_AP50": "coco/bbox_mAP_50", "mask_AP": "coco/segm_mAP",
           "mask_AP50": "coco/segm_mAP_50"}
PANELS = {"ms_median": "ms per picture", "gflops": "GFLOPs per picture (multiply-add = 2)"}
LINES = {"box_AP": ("#0072B2", "o"), "mask_AP": ("#D55E00", "s")}  # of Okabe and Ito's palette


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="of a pruned detector")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument("--scales", nargs="+", type=float, default=[0.4, 0.6, 0.8, 1.0, 1.2], metavar="S",
                        help="ratio_scale of the reducer (default: 0.4 0.6 0.8 1.0 1.2)")
    parser.add_argument("--dense", metavar="CONFIG=CHECKPOINT", help="the dense detector, for comparison")
    parser.add_argument("--images", required=True, metavar="FOLDER", help="pictures to time and count on")
    parser.add_argument("--timed", type=int, default=20, metavar="N", help="how many of them (default: 20)")
    parser.add_argument("--part", choices=PARTS[:2], default="net", help="what is timed (default: net)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", default="work_dirs/tradeoff", metavar="DIR", help="default: work_dirs/tradeoff")
    return parser.parse_args()


def points(args):
    """The cases, the dense one first: it is what the others' speed is a ratio to."""
    if any(not scale > 0 for scale in args.scales) or args.timed < 2:
        raise ConfigError("--scales must be greater than 0, and --timed at least 2 (quartiles need them)")
    found = [Case(args.config, args.checkpoint, "checkpoint", ratio_scale=scale) for scale in sorted(set(args.scales))]
    if args.dense:
        config, _, checkpoint = args.dense.partition("=")
        found.insert(0, Case(config, checkpoint))
    for case in found:
        if not Path(case.checkpoint).is_file():
            raise CheckpointError(f"checkpoint {case.checkpoint!r} of {case.config} does not exist: check the path")
    return found


def evaluate(case, folder):
    """The scores of one case through tools/test.py."""
    name = f"scale_{case.ratio_scale}" if case.ratio_scale else "dense"
    scores = folder / f"{name}.json"
    command = [ROOT / "tools/test.py", case.config, case.checkpoint, "--work-dir", folder / name, "--scores", scores]
    if case.ratio_scale:
        command += ["--cfg-options", f"model.backbone.reducer.ratio_scale={case.ratio_scale}"]
    call(*command)
    found = json.loads(scores.read_text())
    missing = [metric for metric in METRICS.values() if metric not in found]
    if missing:
        raise ConfigError(f"the test_evaluator of {case.config} gives no {missing[0]}: use CocoMetric on bbox and segm")
    return {name: found[metric] for name, metric in METRICS.items()}


def plot(rows, file):
    """Two panels: AP against time, AP against operations; the dense model is the open marker."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    pruned = [r for r in rows if r["ratio_scale"] is not None]
    for axes, (field, label) in zip(panels, PANELS.items(), strict=True):
        for metric, (colour, marker) in LINES.items():
            words = metric.replace("_", " ")
            axes.plot([r[field] for r in pruned], [r[metric] for r in pruned], color=colour, marker=marker, label=words)
            for r in pruned:
                axes.annotate(f"{r['ratio_scale']:g}", (r[field], r[metric]), xytext=(0, 6), ha="center",
                              textcoords="offset points", fontsize=8)
            for r in rows:
                if r["ratio_scale"] is None:
                    axes.plot(r[field], r[metric], color=colour, marker=marker, markersize=10, fillstyle="none",
                              linestyle="none", label=f"{words}, dense")
        if field == "ms_median":
            label = f"{label} ({rows[0]['part']}, {rows[0]['device']})"
        axes.set(xlabel=label)
        axes.grid(alpha=0.3)
        axes.margins(y=0.1)
    panels[0].set(ylabel="AP")
    panels[1].legend()
    figure.suptitle(f"{pruned[0]['model']}: the numbers are ratio_scale")
    figure.savefig(file, dpi=150)


def main():
    args = parse_args()
    cases, folder = points(args), Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    setting = Setting(part=args.part, device=args.device, images=args.images, repeats=args.timed)
    print("Timing all on the same pictures, in turns ...", flush=True)
    rows = measure(cases, setting)
    rows = [{**r, **evaluate(case, folder)} for r, case in zip(rows, cases, strict=True)]
    write_json(folder / "rows.json", rows)
    plot(rows, folder / "tradeoff.png")
    for r in rows:
        name = "dense" if r["ratio_scale"] is None else f"scale {r['ratio_scale']:g}"
        print(f"{name:>10}: box AP {r['box_AP']:.3f}, mask AP {r['mask_AP']:.3f}, kept {r['keep_ratio']:.0%}, "
              f"{r['gflops']:.2f} GFLOPs, {r['ms_median']:.1f} ms, {r['speedup_vs_first']:.2f}x the first")


if __name__ == "__main__":
    run(main)
