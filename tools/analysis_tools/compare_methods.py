"""Methods against each other on one dense model: each is evaluated on the dense weights as they are (off the shelf) and
after fine-tuning from them, with the same recipe, budget and seeds.

    python tools/analysis_tools/compare_methods.py configs/deit/digits/deit-nano_digits.py \\
        configs/deit/digits/{tome,ppt,evit}_deit-nano_digits.py --seeds 0 1 2 --work-dir work_dirs/digits_methods

The first config is the dense model, the others fine-tune it (a config without a reducer among them shows what the
further epochs alone are worth). Every evaluation goes to rows.json in the work dir, one row per method to summary.json,
scores against GMACs to methods.png. With --images the fine-tuned models of the first seed are timed on these images,
all in turns. Run again, it goes on where it stopped: what is trained or evaluated is not done twice.

    python tools/analysis_tools/compare_methods.py configs/setr/vit-nano_setr_camvid-352.py \\
        configs/setr/vit-nano_setr_camvid-352_ftune.py \\
        configs/setr/vit-nano-{dtop,svit,tome,random}_setr_camvid-352.py \\
        --metric mIoU --images data/camvid/images/val --work-dir work_dirs/camvid_methods
"""

import argparse
import json
import statistics
from pathlib import Path

import torch
from matplotlib.figure import Figure
from mmengine.config import Config

from mmcv_custom.benchmark import BenchmarkCase, BenchmarkSettings, measure
from mmcv_custom.cli.launch import run
from mmcv_custom.cli.subprocess_tools import ROOT, call, lock_settings, train
from mmcv_custom.errors import ConfigError
from mmcv_custom.results import row, write_json

# Methods whose selection is random before it was trained: off the shelf they say nothing.
LEARNED = ("SViT", "DynamicViT", "Cropr")
# Okabe and Ito's palette, and markers: told apart by colour-blind readers, too.
LOOKS = [
    ("#0072b2", "o"),
    ("#d55e00", "X"),
    ("#e69f00", "v"),
    ("#009e73", "s"),
    ("#cc79a7", "D"),
    ("#56b4e9", "^"),
    ("#000000", "P"),
    ("#999999", "<"),
    ("#882255", ">"),
]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dense", help="config of the dense model")
    parser.add_argument("methods", nargs="+", metavar="CONFIG", help="configs that fine-tune it")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of all training (default: 0)")
    parser.add_argument(
        "--epochs", nargs=2, type=int, default=(None, None), metavar=("DENSE", "PRUNED"), help="default: the configs'"
    )
    parser.add_argument("--metric", default="accuracy/top1", help="of the evaluator (default: accuracy/top1)")
    parser.add_argument("--images", metavar="FOLDER", help="also time the models on these images, one at a time")
    parser.add_argument("--timed", type=int, default=20, metavar="N", help="how many of them (default: 20)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="to time on")
    parser.add_argument("--work-dir", default="work_dirs/methods")
    args = parser.parse_args()
    if args.images and args.timed < 2:
        parser.error("--timed must be at least 2: quartiles need them")
    return args


def labels(configs):
    """config -> what people call it: its reducer, if no other config has the same, else the file's name."""
    found = {config: label(config) for config in configs}
    names = list(found.values())
    return {config: Path(config).stem if names.count(name) > 1 else name for config, name in found.items()}


def label(config):
    """The reducer of a config with the options that make it another method, "dense" without one."""
    reducer = Config.fromfile(config).model.backbone.get("reducer")
    if reducer is None:
        return "dense"
    options = {
        "fuse": {False: " without fusion"},
        "fusion": {False: " without fusion"},
        "preserve": {False: " without preservation"},
        "ranking": {"random": ", random ranking", "inverted": ", inverted"},
    }
    return reducer.type + "".join(words.get(reducer.get(key), "") for key, words in options.items())


def evaluate(config, checkpoint, path):
    """The scores of tools/test.py, which writes them to ``path`` unless they are there."""
    if not path.exists():
        call(ROOT / "tools/test.py", config, checkpoint, "--work-dir", path.parent / "test", "--scores", path)
    return json.loads(path.read_text())


def measured(name, config, stage, seed, checkpoint, path, metric):
    """The row of one evaluation."""
    scores = evaluate(config, checkpoint, path)
    if metric not in scores:
        raise ConfigError(f"--metric {metric} is not among the scores of {config}: {', '.join(sorted(scores))}")
    return row(
        model=name,
        config=str(config),
        checkpoint=str(checkpoint),
        stage=stage,
        seed=seed,
        score=scores[metric],
        metric=metric,
        gmacs=scores["cost/gmacs"],
        gmacs_std=scores["cost/gmacs_std"],
        keep_by_block=scores["cost/keep_ratio"],
    )


def one_seed(args, folder, seed):
    """The rows of one seed."""
    checkpoint = train(args.dense, folder / "dense", seed, args.epochs[0])
    rows = [measured("dense", args.dense, "dense", seed, checkpoint, folder / "dense.json", args.metric)]
    for config, name in labels(args.methods).items():
        stem, model = Path(config).stem, Config.fromfile(config).model
        reducer = model.backbone.get("reducer")
        if reducer is not None and reducer.type not in LEARNED:
            rows.append(
                measured(name, config, "off the shelf", seed, checkpoint, folder / f"{stem}_shelf.json", args.metric)
            )
        # A teacher, where a method has one, is this seed's dense model.
        teacher = (model.get("distillation") or {}).get("teacher")
        options = [f"model.distillation.teacher.checkpoint={checkpoint}"] if teacher else []
        tuned = train(config, folder / stem, seed, args.epochs[1], checkpoint, options)
        rows.append(measured(name, config, "fine-tuned", seed, tuned, folder / f"{stem}_tuned.json", args.metric))
    return rows


def summary(rows):
    """One row per model: means over the seeds, standard deviations, and every seed's score. The dense model's score is
    its "off the shelf"."""
    found = []
    dense = statistics.mean(r["gmacs"] for r in rows if r["stage"] == "dense")
    for name in dict.fromkeys(r["model"] for r in rows):
        own = [r for r in rows if r["model"] == name]
        tuned = [r for r in own if r["stage"] == "fine-tuned"]
        gmacs = statistics.mean(r["gmacs"] for r in tuned or own)  # where images decide, training moves it a little
        fields = dict(
            model=name,
            config=own[-1]["config"],
            metric=own[0]["metric"],
            seeds=len(tuned),
            gmacs=gmacs,
            gmacs_ratio=gmacs / dense,
        )
        shelf = [r for r in own if r["stage"] != "fine-tuned"]
        for field, part in (("off_the_shelf", shelf), ("fine_tuned", tuned)):
            scores = [r["score"] for r in part]
            if scores:
                fields |= {
                    field: statistics.mean(scores),
                    f"gmacs_{field}": statistics.mean(r["gmacs"] for r in part),
                    f"{field}_by_seed": scores,
                    f"{field}_std": statistics.stdev(scores) if len(scores) > 1 else 0.0,
                }
        found.append(row(**fields))
    return found


def timed(rows, args):
    """model -> milliseconds an image, and how many times faster than the dense model, of the first seed's."""
    cases = {}
    for r in rows:
        if r["seed"] == args.seeds[0] and r["stage"] != "off the shelf":
            # The first of a name: of "dense", the model that the others start from, not what further epochs make of it.
            cases.setdefault(r["model"], BenchmarkCase(r["config"], r["checkpoint"]))
    print("\nTiming all on the same images, in turns ...", flush=True)
    found = measure(list(cases.values()), BenchmarkSettings(device=args.device, images=args.images, repeats=args.timed))
    fields = ("ms_median", "ms_quartiles", "speedup_vs_first", "speedup_vs_first_quartiles", "device")
    return {name: {field: r[field] for field in fields} for name, r in zip(cases, found, strict=True)}


def report(table):
    """The ``summary`` for the terminal."""
    seeds = max(r["seeds"] for r in table)
    said = "one seed" if seeds == 1 else f"mean and standard deviation of {seeds} seeds"
    times = "ms_median" in table[0]
    lines = [
        f"{'':<28}{'GMACs':>9}{'of dense':>10}   {'off the shelf':<18}{'fine-tuned':<18}"
        + f"{'ms':>8}{'faster':>9}" * times
        + f"   ({table[0]['metric']}, {said})"
    ]
    for r in table:
        shown = [
            f"{r[field]:.2f} +- {r[field + '_std']:.2f}" if field in r else "-"
            for field in ("off_the_shelf", "fine_tuned")
        ]
        clock = f"{r['ms_median']:>8.1f}{r['speedup_vs_first']:>8.2f}x" if times else ""
        lines.append(
            f"{r['model']:<28}{r['gmacs']:>9.4f}{r['gmacs_ratio']:>10.3f}   {shown[0]:<18}{shown[1]:<18}" + clock
        )
    return "\n".join(
        [
            *lines,
            "",
            "A multiply-add is 1. Off the shelf: the dense weights as they are, of which learned selections have none.",
        ]
    )


def draw(table, path):
    """Score against GMACs: hollow off the shelf, filled fine-tuned; bars are standard deviations over seeds."""
    axes = (figure := Figure(figsize=(7.5, 4.5), layout="constrained")).subplots()
    looks = dict(zip((r["model"] for r in table), [("#000000", "*"), *LOOKS * len(table)], strict=False))
    for r in table:
        colour, marker = looks[r["model"]]
        for field, fill in (("off_the_shelf", "white"), ("fine_tuned", colour)):
            if field in r:
                axes.errorbar(
                    r[f"gmacs_{field}"],
                    r[field],
                    r[f"{field}_std"],
                    color=colour,
                    marker=marker,
                    markersize=9,
                    markerfacecolor=fill,
                    linestyle="",
                    capsize=3,
                    label=r["model"] if fill == colour else None,
                )
    axes.set(
        xlabel="GMACs of an image (a multiply-add is 1)",
        ylabel=table[0]["metric"],
        title="hollow: off the shelf, filled: fine-tuned",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main():
    args = parse_args()
    for config in (args.dense, *args.methods):
        if not Path(config).is_file():
            raise ConfigError(f"config {config} does not exist: check the path")
    stems = [Path(config).stem for config in args.methods]
    if len({*stems}) < len(stems):
        raise ConfigError("two of the configs have the same file name, by which their results are kept: rename one")
    folder = Path(args.work_dir)
    lock_settings(
        folder,
        "a comparison",
        {"dense": args.dense, **{Path(c).stem: c for c in args.methods}},
        epochs=list(args.epochs),
        metric=args.metric,
    )
    rows = [r for seed in args.seeds for r in one_seed(args, folder / f"seed_{seed}", seed)]
    write_json(folder / "rows.json", rows)
    table = summary(rows)
    if args.images:
        times = timed(rows, args)
        table = [r | times[r["model"]] for r in table]
    write_json(folder / "summary.json", table)
    draw(table, folder / "methods.png")
    print("\n" + report(table))


if __name__ == "__main__":
    run(main)
