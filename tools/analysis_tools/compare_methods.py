"""Compare methods that are fine-tuned from one dense model.

    python tools/analysis_tools/compare_methods.py configs/deit/digits/deit-nano_digits.py \\
        configs/deit/digits/{tome,ppt,evit}_deit-nano_digits.py --seeds 0 1 2 --work-dir work_dirs/digits_methods

The first config is the dense model; the others are fine-tuned from it with the same recipe, budget and seeds. A config
without a reducer among them shows the gain of the additional epochs alone. Each method is also evaluated off the shelf
(on the dense weights, without fine-tuning), unless its selection needs training.

The work dir then holds rows.json (one row per evaluation), summary.json (one row per method) and methods.png (scores
against GMACs). With --images, the fine-tuned models of the first seed are timed on these images, interleaved. Options,
configs and data are checked before the first training. A second run in the same work dir continues where the first one
stopped, also with another --metric and with more seeds or methods: nothing is trained or evaluated twice.

    python tools/analysis_tools/compare_methods.py configs/setr/vit-nano_setr_camvid-352.py \\
        configs/setr/vit-nano_setr_camvid-352_ftune.py \\
        configs/setr/vit-nano-{dtop,svit,tome,random}_setr_camvid-352.py \\
        --metric mIoU --images data/camvid/images/val --work-dir work_dirs/camvid_methods

Seeds or methods that were run separately are joined into one table:

    python tools/analysis_tools/compare_methods.py --merge work_dirs/seeds_0_1 work_dirs/seed_2 --work-dir work_dirs/all
"""

import argparse
import inspect
import json
import statistics
from pathlib import Path

import torch
from matplotlib.figure import Figure

from mmcv_custom.benchmark import BenchmarkCase, BenchmarkSettings, check_device, measure
from mmcv_custom.benchmark.inputs import image_files
from mmcv_custom.benchmark.styles import DENSE_STYLE, STYLES
from mmcv_custom.cli.comparison_check import TEACHER, check_comparison, check_data
from mmcv_custom.cli.launch import read_config, run
from mmcv_custom.cli.subprocess_tools import ROOT, call, lock_settings, train
from mmcv_custom.errors import ConfigError
from mmcv_custom.files import replacing
from mmcv_custom.results import row, write_json
from mmcv_custom.shipped import config_stem
from token_pruning.analysis.keep_ratio import mean_keep_ratio
from token_pruning.reducer import find_method


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dense", nargs="?", help="config of the dense model")
    parser.add_argument("methods", nargs="*", metavar="CONFIG", help="configs that are fine-tuned from it")
    parser.add_argument("--merge", nargs="+", metavar="FOLDER", help="instead: join the rows of these work dirs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of all trainings (default: 0)")
    parser.add_argument(
        "--epochs", nargs=2, type=int, default=(None, None), metavar=("DENSE", "PRUNED"), help="default: the configs'"
    )
    parser.add_argument("--metric", help="score to compare (default: the task's: accuracy/top1, mIoU, coco/bbox_mAP)")
    parser.add_argument("--images", metavar="FOLDER", help="also time the models on these images, one at a time")
    parser.add_argument("--timed", type=int, default=20, metavar="N", help="number of timed images (default: 20)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="device for timing")
    parser.add_argument("--work-dir", default="work_dirs/methods")
    args = parser.parse_args()
    if args.timed < 1 or any(epochs is not None and epochs < 1 for epochs in args.epochs):
        parser.error("--timed and --epochs must be at least 1")
    if len({*args.seeds}) < len(args.seeds):
        parser.error("--seeds names one seed twice")
    if args.merge and args.dense:
        parser.error("--merge joins work dirs and takes no configs: leave one of them out")
    if not (args.merge or args.methods):
        parser.error("give the config of the dense model and at least one CONFIG, or --merge FOLDER ...")
    return args


def labels(configs):
    """Return config -> display name: "dense" or the method, with what sets several configs of one method apart.

    These are switches and choices (bool and str arguments) that differ from the method's defaults, or the file name
    where the configs differ in other arguments only.
    """
    reducers = {config: dict(read_config(config).model.backbone.get("reducer") or {}) for config in configs}
    found = {config: label(reducer, reducers.values()) for config, reducer in reducers.items()}
    names = list(found.values())
    return {config: config_stem(config) if names.count(name) > 1 else name for config, name in found.items()}


def label(reducer, reducers):
    """Return the name of a reducer's config among others."""
    if not reducer:
        return "dense"
    defaults = {name: p.default for name, p in inspect.signature(find_method(reducer["type"])).parameters.items()}
    options = [
        f"{key}={value}"
        for key, value in reducer.items()
        if isinstance(value, (bool, str))
        and value != defaults.get(key, value)
        and any(other.get(key, defaults[key]) != value for other in reducers if other.get("type") == reducer["type"])
    ]
    return reducer["type"] + (f" ({', '.join(options)})" if options else "")


def evaluate(config, checkpoint, path):
    """Return the scores in ``path``, which tools/test.py writes if the file does not exist."""
    if not path.exists():
        call(ROOT / "tools/test.py", config, checkpoint, "--work-dir", path.parent / "test", "--scores", path)
    return json.loads(path.read_text())


def measured(name, config, stage, seed, checkpoint, path, metric, pruned_blocks):
    """Return the row of one evaluation."""
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
        scores={name: value for name, value in scores.items() if not name.startswith("cost/")},
        gmacs=scores["cost/gmacs"],
        gmacs_std=scores["cost/gmacs_std"],
        keep_by_block=scores["cost/keep_ratio"],
        pruned_blocks=pruned_blocks,
        keep_ratio=mean_keep_ratio(scores["cost/keep_ratio"], pruned_blocks),
    )


def evaluations(args, folder, seed):
    """Iterate over (config, stage, file of the scores) of one seed, the dense model first."""
    here = folder / f"seed_{seed}"
    yield args.dense, "dense", here / "dense.json"
    for config in args.methods:
        reducer = read_config(config).model.backbone.get("reducer")
        if reducer is not None and not find_method(reducer.type).needs_training:
            yield config, "off the shelf", here / f"{config_stem(config)}_shelf.json"
        yield config, "fine-tuned", here / f"{config_stem(config)}_tuned.json"


def one_seed(args, folder, seed, metric, pruned_blocks):
    """Train and evaluate all models with one seed and return the rows; ``pruned_blocks``: config -> block numbers."""
    names, rows, dense = {args.dense: "dense"} | labels(args.methods), [], None
    for config, stage, path in evaluations(args, folder, seed):
        if stage == "dense":
            checkpoint = dense = train(config, path.parent / "dense", seed, args.epochs[0])
        elif stage == "off the shelf":
            checkpoint = dense
        else:
            # Where a method is distilled, its teacher is the dense model of this seed.
            teacher = (read_config(config).model.get("distillation") or {}).get("teacher")
            options = [f"{TEACHER}={dense}"] if teacher else []
            checkpoint = train(config, path.parent / config_stem(config), seed, args.epochs[1], dense, options)
        name = "dense" if stage == "dense" else names[config]
        rows.append(measured(name, config, stage, seed, checkpoint, path, metric, pruned_blocks[config]))
    return rows


def merge(folders):
    """Return the rows of several work dirs, each evaluation once.

    Raises:
        ConfigError: a folder without rows or with those of an older version, folders of different
            metrics or dense models, or two different scores for one config, stage and seed.
    """
    rows = {}
    for folder in folders:
        path = Path(folder) / "rows.json"
        if not path.is_file():
            raise ConfigError(f"--merge {folder}: it has no rows.json; give work dirs of finished comparisons")
        for r in json.loads(path.read_text()):
            if "keep_ratio" not in r:
                raise ConfigError(
                    f"--merge {folder}: its rows.json is of an older version; run the comparison there again, which "
                    "trains and evaluates nothing twice"
                )
            if rows.setdefault((r["config"], r["stage"], r["seed"]), r)["score"] != r["score"]:
                raise ConfigError(
                    f"--merge {folder}: {r['model']} ({r['stage']}, seed {r['seed']}) has another score than in a "
                    "folder before it; merge comparisons that share their dense models"
                )
    rows = list(rows.values())
    for what, differ in (("metric", {r["metric"] for r in rows}), ("dense model", configs_of(rows, "dense", "dense"))):
        if len(differ) > 1:
            raise ConfigError(f"--merge: the folders differ in their {what} ({', '.join(sorted(differ))})")
    # Each folder named its own configs, so one name may now stand for several.
    return [
        r if len(configs_of(rows, r["model"], r["stage"])) == 1 else dict(r, model=Path(r["config"]).stem) for r in rows
    ]


def configs_of(rows, model, stage):
    """Return the configs of all rows of one model and stage."""
    return {r["config"] for r in rows if (r["model"], r["stage"]) == (model, stage)}


def summary(rows):
    """Return one row per model: means and standard deviations over the seeds, and the score of every seed.

    The dense model's own score counts as "off the shelf". ``scores`` holds the means of all scores of the evaluator,
    after fine-tuning where there is one.
    """
    found = []
    dense = statistics.mean(r["gmacs"] for r in rows if r["stage"] == "dense")
    for name in dict.fromkeys(r["model"] for r in rows):
        own = [r for r in rows if r["model"] == name]
        tuned = [r for r in own if r["stage"] == "fine-tuned"]
        final = tuned or own  # training changes the GMACs of methods that keep an image-dependent number of tokens
        gmacs = statistics.mean(r["gmacs"] for r in final)
        fields = dict(
            model=name,
            config=own[-1]["config"],
            metric=own[0]["metric"],
            weights="trained",
            seeds=len(tuned),
            gmacs=gmacs,
            gmacs_ratio=gmacs / dense,
            keep_ratio=statistics.mean(r["keep_ratio"] for r in final),
            scores={name: statistics.mean(r["scores"][name] for r in final) for name in final[0]["scores"]},
        )
        shelf = [r for r in own if r["stage"] != "fine-tuned"]
        for field, part in (("off_the_shelf", shelf), ("fine_tuned", tuned)):
            if part:
                scores = [r["score"] for r in part]
                fields |= {
                    field: statistics.mean(scores),
                    f"gmacs_{field}": statistics.mean(r["gmacs"] for r in part),
                    f"{field}_by_seed": scores,
                    f"{field}_std": statistics.stdev(scores) if len(scores) > 1 else 0.0,
                }
        found.append(row(**fields))
    return found


def timed(rows, args):
    """Time the models of the first seed and return model -> latency per image and speedup over the dense model."""
    cases = {}
    for r in rows:
        if r["seed"] == rows[0]["seed"] and r["stage"] != "off the shelf":
            # The first row of a name: "dense" is then the model that all start from, not the one trained longer.
            cases.setdefault(r["model"], BenchmarkCase(r["config"], r["checkpoint"]))
    print("\nTiming all models on the same images, interleaved ...", flush=True)
    found = measure(list(cases.values()), BenchmarkSettings(device=args.device, images=args.images, repeats=args.timed))
    fields = ("ms_median", "ms_quartiles", "speedup_vs_first", "speedup_vs_first_quartiles", "device")
    return {name: {field: r[field] for field in fields} for name, r in zip(cases, found, strict=True)}


def report(table):
    """Return the ``summary`` as text for the terminal."""
    seeds = max(r["seeds"] for r in table)
    said = "one seed" if seeds == 1 else f"mean and standard deviation of {seeds} seeds"
    times = "ms_median" in table[0]
    lines = [
        f"{'':<28}{'kept':>6}{'GMACs':>9}{'of dense':>10}   {'off the shelf':<18}{'fine-tuned':<18}"
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
            f"{r['model']:<28}{r['keep_ratio']:>6.0%}{r['gmacs']:>9.4f}{r['gmacs_ratio']:>10.3f}   "
            f"{shown[0]:<18}{shown[1]:<18}" + clock
        )
    return "\n".join(
        [
            *lines,
            "",
            "Kept: tokens that a pruned block computes, mean over these blocks. GMACs: one multiply-add counts as 1.",
            "Off the shelf: on the dense weights, without fine-tuning; methods whose selection needs training have",
            "no such score.",
        ]
    )


def draw(table, path):
    """Plot scores against GMACs: hollow off the shelf, filled fine-tuned, bars of one standard deviation over seeds."""
    axes = (figure := Figure(figsize=(7.5, 4.5), layout="constrained")).subplots()
    styles = dict(zip((r["model"] for r in table), [DENSE_STYLE, *STYLES * len(table)], strict=False))
    for r in table:
        colour, marker = styles[r["model"]]
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
        xlabel="GMACs per image",
        ylabel=table[0]["metric"],
        title="hollow: off the shelf, filled: fine-tuned",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with replacing(path) as part:
        figure.savefig(part, dpi=150)


def trained_rows(args, folder):
    """Train and evaluate what is not in ``folder`` yet and return all rows; first check everything that can be."""
    metric, pruned_blocks = check_comparison(args.dense, args.methods, args.metric)
    stems = [config_stem(config) for config in args.methods]
    if len({*stems}) < len(stems):
        raise ConfigError("two of the configs have the same file name, by which their results are kept: rename one")
    if args.images:
        check_device(args.device)
        image_files(args.images)
    left = [config for seed in args.seeds for config, _, path in evaluations(args, folder, seed) if not path.exists()]
    check_data(list(dict.fromkeys(left)))
    lock_settings(
        folder,
        "a comparison",
        {"dense": args.dense, **{Path(c).stem: c for c in args.methods}},
        epochs=list(args.epochs),
    )
    return [r for seed in args.seeds for r in one_seed(args, folder, seed, metric, pruned_blocks)]


def main():
    args = parse_args()
    folder = Path(args.work_dir)
    if args.merge and (folder / "settings.json").exists():
        raise ConfigError(f"{folder} holds a comparison of its own: give another --work-dir for the merged rows")
    rows = merge(args.merge) if args.merge else trained_rows(args, folder)
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
