"""Plot curves from training logs, and the fraction of tokens that every block kept during training.

    python tools/analysis_tools/plot_logs.py work_dirs/svit-adapter-t-0.5x-ftune
    python tools/analysis_tools/plot_logs.py DENSE_DIR PRUNED_DIR --keys loss coco/bbox_mAP --names dense pruned

Reads scalars.json of one or several work dirs (any task; the parts of a resumed run are joined) and writes logs.png
and, where kept tokens were logged, keep_ratio.png to --out.
"""

import argparse
import json
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmcv_custom.cli import launch
from mmcv_custom.errors import ConfigError, DataError
from mmcv_custom.files import replacing
from mmcv_custom.tasks import TASKS

# Okabe and Ito's palette with different dashes, so that colour-blind readers can tell them apart.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
DASHES = ["-", "--", "-.", ":"]
SCORES = [score for task in TASKS.values() for score in list(task.metric.scores.values())[:2]]
KEPT = ("keep_ratio.", "cost/keep_ratio.")  # prefixes of the keys of training and of evaluations
DENSE = 100  # a curve with more points is drawn faintly, with its running mean on top
FEW = 16  # heat maps with at most this many columns show their numbers


@dataclass
class Run:
    """A training.

    Attributes:
        curves: key -> list of (iteration, value).
        per_epoch: iterations per epoch; None for a run that is not counted in epochs.
    """

    name: str
    curves: dict
    per_epoch: int | None


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work_dirs", nargs="+", metavar="WORK_DIR", help="work dir of a training")
    parser.add_argument(
        "--keys",
        nargs="+",
        metavar="KEY",
        help="curves to draw, one panel each (default: the loss and the main scores that were logged)",
    )
    parser.add_argument(
        "--names", nargs="+", metavar="NAME", help="names of the runs (default: the part in which their paths differ)"
    )
    parser.add_argument("--title", help="title of the images")
    parser.add_argument("--out", default="work_dirs/logs", metavar="DIR", help="default: work_dirs/logs")
    args = parser.parse_args()
    if args.names and len(args.names) != len(args.work_dirs):
        parser.error(f"--names has {len(args.names)} names for {len(args.work_dirs)} runs: give one per run")
    return args


def read_run(folder, name):
    """Read the curves of one work dir; raise DataError if nothing was logged."""
    folder = Path(folder)
    files = (
        [folder]
        if folder.is_file()
        else sorted([*folder.glob("vis_data/scalars.json"), *folder.glob("*/vis_data/scalars.json")])
    )
    if not files:
        raise DataError(
            f"{folder} has no */vis_data/scalars.json: give the work dir of a training, and keep "
            "LocalVisBackend among visualizer.vis_backends"
        )
    parts = [part for part in map(read_rows, files) if any("iter" in row for row in part)]  # tests have no iterations
    if not parts:
        raise DataError(
            f"the logs of {folder} have no row of training: nothing was logged yet, or they are logs of tests"
        )
    ends = [(row["iter"], row["epoch"]) for part in parts for row in part if "epoch" in row and "iter" in row]
    per_epoch = max((ceil(iteration / epoch) for iteration, epoch in ends), default=None)
    rows = []
    for part in parts:
        placed = [(row["iter"] if "iter" in row else row["step"] * (per_epoch or 1), row) for row in part]
        # A resumed run begins at a checkpoint and repeats the iterations that were logged after that checkpoint.
        begin = min(at for at, row in placed if "iter" in row)
        rows = [(at, row) for at, row in rows if at < begin] + placed
    curves = {}
    for at, row in rows:
        for key, value in row.items():
            if key not in ("iter", "epoch", "step") and isinstance(value, (int, float)):
                curves.setdefault(key, []).append((at, value))
    return Run(name, curves, per_epoch)


def read_rows(file):
    """Read the rows of one file; the last one may be incomplete if the run was killed."""
    lines = [line for line in file.read_text().splitlines() if line.strip()]
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise DataError(f"line {number} of {file} is not JSON: the file is no log, or damaged") from None
    if not all(isinstance(row, dict) and "step" in row for row in rows):
        raise DataError(f"{file} has lines without a step: it is no log of MMEngine's LocalVisBackend")
    return rows


def short_names(folders):
    """Return the last part in which the paths differ."""
    parts = [Path(folder).resolve().parts for folder in folders]
    while len({p[-1] for p in parts}) == 1 and len(parts) > 1 and min(map(len, parts)) > 2:
        parts = [p[:-1] for p in parts]
    return [p[-1] for p in parts]


def chosen(keys, runs):
    """Return the keys to draw; raise ConfigError for a key that no run logged."""
    logged = {key for run in runs for key in run.curves}
    if keys is None:
        return [key for key in ("loss", *SCORES) if key in logged] or sorted(logged)[:4]
    for key in keys:
        if key not in logged:
            raise ConfigError(f"--keys {key}: none of the runs logged it, only {', '.join(sorted(logged))}")
    return list(dict.fromkeys(keys))


def axis(runs):
    """Return the unit of the x axis and, for each run, the iterations in one unit."""
    if all(run.per_epoch for run in runs):
        return "epoch", [run.per_epoch for run in runs]
    return "iteration", [1] * len(runs)


def draw_curves(runs, keys, title=None):
    """Draw a panel for each key, with a curve for each run."""
    columns = min(2, len(keys))
    lines = ceil(len(keys) / columns)
    figure = Figure(figsize=(6.2 * columns, 3.8 * lines + 0.5), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    unit, steps = axis(runs)
    for axes, key in zip(panels, keys, strict=False):
        for i, (run, step) in enumerate(zip(runs, steps, strict=True)):
            if key in run.curves:
                x, y = (np.array(values, float) for values in zip(*run.curves[key], strict=True))
                dashes = DASHES[i // len(COLOURS) % len(DASHES)]
                draw_line(axes, x / step, y, run.name, COLOURS[i % len(COLOURS)], dashes)
        axes.set_title(key, fontsize=13)
        axes.set_xlabel(unit, fontsize=11)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=axes.get_xlim()[1] >= 3))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(keys) :]:
        axes.set_visible(False)
    if len(runs) > 1:
        shown = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=min(3, len(shown)), fontsize=11)
    figure.suptitle(title or (f"Training of {runs[0].name}" if len(runs) == 1 else "Trainings"), fontsize=14)
    return figure


def draw_line(axes, x, y, name, colour, dashes):
    """Draw one curve, smoothed where it has many points."""
    look = dict(color=colour, linestyle=dashes, linewidth=1.8)
    if len(x) <= DENSE:
        axes.plot(x, y, label=name, marker="o" if len(x) <= 25 else "", markersize=4, **look)
        return
    axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.8)
    width = len(x) // (DENSE // 2)
    axes.plot(x, [y[max(0, i - width) : i + width + 1].mean() for i in range(len(y))], label=name, **look)


def kept_by_block(run):
    """Return blocks, iterations, a (blocks, iterations) array of kept fractions, and where these were logged.

    Those of training are preferred to those of evaluations; None for a run that logged neither.
    """
    for prefix, what in zip(KEPT, ("in training", "in evaluations"), strict=True):
        found = {
            int(key.removeprefix(prefix)): dict(points)
            for key, points in run.curves.items()
            if key.startswith(prefix) and key.removeprefix(prefix).isdecimal()
        }
        if found:
            blocks, at = sorted(found), sorted({x for points in found.values() for x in points})
            return blocks, at, np.array([[found[block].get(x, np.nan) for x in at] for block in blocks]), what
    return None


def draw_kept(runs, title=None):
    """Draw a heat map (block against iteration) for each run that logged kept tokens; return None if none did."""
    unit, steps = axis(runs)
    shown = [found for found in zip(runs, map(kept_by_block, runs), steps, strict=True) if found[1]]
    if not shown:
        return None
    heights = [0.42 * len(kept[0]) + 1.1 for _, kept, _ in shown]
    figure = Figure(figsize=(10, sum(heights) + 0.6), layout="constrained")
    panels = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights).ravel()
    # One colour range for all runs, rounded to tenths: changes are small compared with the range from 0 to 1.
    low, high = (f(np.concatenate([kept[2].ravel() for _, kept, _ in shown])) for f in (np.nanmin, np.nanmax))
    colours = dict(cmap="viridis", vmin=floor(10 * low) / 10, vmax=max(ceil(10 * high), floor(10 * low) + 1) / 10)
    for axes, (run, (blocks, at, values, what), step) in zip(panels, shown, strict=True):
        ends = np.array(at) / step
        edges = np.concatenate([[max(0.0, 2 * ends[0] - ends[min(1, len(ends) - 1)])], ends])
        image = axes.pcolormesh(edges, np.arange(len(blocks) + 1) - 0.5, values, **colours)
        axes.set_yticks(range(len(blocks)), blocks, fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=ends[-1] >= 3))
        axes.set_xlabel(unit, fontsize=11)
        axes.set_ylabel("block", fontsize=11)
        axes.set_title(f"{run.name}, {what}", fontsize=12)
        if len(at) <= FEW:
            for (y, x), value in np.ndenumerate(values):
                if np.isfinite(value):
                    axes.text(
                        (edges[x] + edges[x + 1]) / 2,
                        y,
                        f"{value:.2f}",
                        ha="center",
                        va="center",
                        fontsize=9,
                        color="black" if image.norm(value) > 0.55 else "white",
                    )
    bar = figure.colorbar(image, ax=panels, shrink=max(0.3, 1 / len(shown)), pad=0.02)
    bar.set_label("fraction of tokens computed", fontsize=11)
    figure.suptitle(title or "Kept tokens by block", fontsize=14)
    return figure


def main():
    args = parse_args()
    for folder in args.work_dirs:
        if not Path(folder).exists():
            raise DataError(f"{folder} does not exist: give the work dir of a training")
    names = args.names or short_names(args.work_dirs)
    runs = [read_run(folder, name) for folder, name in zip(args.work_dirs, names, strict=True)]
    keys = chosen(args.keys, runs)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    figures = {"logs.png": draw_curves(runs, keys, args.title), "keep_ratio.png": draw_kept(runs, args.title)}
    for file, figure in figures.items():
        if figure is not None:
            with replacing(out / file) as part:
                figure.savefig(part, dpi=150)
            print(f"wrote {out / file}")
    for key in keys:
        ends = (
            f"{run.name} {run.curves[key][-1][1]:.4g}" if key in run.curves else f"{run.name} never logged it"
            for run in runs
        )
        print(f"{key}, last: {', '.join(ends)}")


if __name__ == "__main__":
    launch.run(main)
