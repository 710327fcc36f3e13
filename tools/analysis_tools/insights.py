"""Check the four insights of the SViT paper on a small scale: nano detectors on digit scenes.

    python tools/analysis_tools/insights.py --seeds 0

Every variant is fine-tuned from one dense detector with the same recipe, budget and seed; then all are evaluated, and
timed interleaved, and each insight gets a verdict. Writes rows.json and insights.png (box AP against GMACs) to the work
dir. A second run continues where the first one stopped: nothing is trained or measured twice, and seeds or variants can
be added.
"""

import argparse
import json
import statistics
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS

from mmcv_custom.benchmark.styles import DENSE_STYLE, STYLES
from mmcv_custom.benchmark.timing import compare
from mmcv_custom.cli.launch import build_model, read_config, run
from mmcv_custom.cli.subprocess_tools import ROOT, call, lock_settings, train
from mmcv_custom.errors import building_from_config
from mmcv_custom.files import replacing
from mmcv_custom.results import row, write_json

CONFIGS = {
    "dense": ROOT / "configs/quickstart/digits_vit-adapter-nano.py",
    "standard": ROOT / "configs/quickstart/digits_svit-adapter-nano.py",
}
VARIANTS = ["discarded", "inherited", "fixed-rate", "heavier-gate", "packed"]
CONFIGS |= {name: ROOT / f"configs/quickstart/insights/digits_svit-adapter-nano_{name}.py" for name in VARIANTS}
CLOSE = 0.005  # difference in box AP up to which two models count as equal
ROUNDS = 15  # rounds of timed training steps
# The variant that follows the paper, the one that does not, how the first should compare, the insight. Discarded tokens
# cannot be reactivated, so the cost of their lost values shows in comparison with inherited ones, which cannot either.
INSIGHTS = [
    ("inherited", "discarded", "better", "1. Preserve pruned tokens in the map"),
    ("standard", "inherited", "better", "2. Let later blocks reactivate them"),
    ("standard", "fixed-rate", "better", "3. Let the rate differ from image to image"),
    ("standard", "heavier-gate", "as good", "4. Select tokens with a two-layer MLP"),
]
STYLE_OF = dict(zip(CONFIGS, [DENSE_STYLE, *STYLES], strict=False))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of the fine-tuning (default: 0)")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=VARIANTS, help="variants to train (default: all)"
    )
    parser.add_argument("--dense", metavar="CHECKPOINT", help="dense model to start from (default: train one)")
    parser.add_argument(
        "--epochs", nargs=2, type=int, metavar=("DENSE", "PRUNED"), help="epochs (default: the configs')"
    )
    parser.add_argument(
        "--images",
        nargs=2,
        type=int,
        metavar=("TRAIN", "VAL"),
        default=(1000, 200),
        help="number of images (default: 1000 200)",
    )
    parser.add_argument("--timed", type=int, default=40, metavar="N", help="number of timed images (default: 40)")
    parser.add_argument("--work-dir", default="work_dirs/insights")
    return parser.parse_args()


def trained(name, folder, epochs, seed, start=None):
    """Train one model and return its checkpoint; all models are evaluated at the end."""
    epochs = epochs or read_config(CONFIGS[name]).train_cfg.max_epochs
    return train(CONFIGS[name], folder / name, seed, epochs, start, [f"param_scheduler.1.end={epochs}"])


def measure(checkpoints, folder, seed, timed):
    """Return the rows of one seed, which tools/quickstart/compare.py writes if they do not exist."""
    path = folder / "rows.json"
    if path.exists():
        rows = json.loads(path.read_text())
        if [r["model"] for r in rows] == list(checkpoints):
            return rows
    call(
        ROOT / "tools/quickstart/compare.py",
        *(f"{name}={CONFIGS[name]}={file}" for name, file in checkpoints.items()),
        "--out",
        folder / "compared.json",
        "--timed",
        timed,
    )
    rows = json.loads((folder / "compared.json").read_text())
    steps = {"packed": step_times(checkpoints)} if "packed" in checkpoints else {}
    rows = [dict(r, **row(seed=seed, **steps.get(r["model"], {}))) for r in rows]
    write_json(path, rows)
    return rows


def step_times(checkpoints):
    """Time a training step (forward and backward) in packed mode, in exact mode and of the dense model, interleaved."""
    device, steps, batch = get_device(), {}, None
    for name in ("packed", "standard", "dense"):
        cfg = read_config(CONFIGS[name])
        model = build_model(cfg, checkpoints[name]).to(device).train()
        if batch is None:
            loader = cfg.train_dataloader
            with building_from_config():
                dataset = DATASETS.build(dict(loader.dataset, _scope_=cfg.default_scope))
            batch = pseudo_collate([dataset[i] for i in range(min(loader.batch_size, len(dataset)))])
        steps[name] = partial(_step, model, model.data_preprocessor(batch, True))
    return {f"step_{field}": value for field, value in compare(steps, torch.device(device), ROUNDS, times=5).items()}


def _step(model, data):
    loss, _ = model.parse_losses(model(**data, mode="loss"))
    loss.backward()
    model.zero_grad()


def mean(rows, name, field):
    """Return the mean of a field of one model over all seeds."""
    return statistics.mean(r[field] for r in rows if r["model"] == name)


def gains(rows, better, worse):
    """Return the gain in box AP of one model over another, by seed."""
    found = {(r["seed"], r["model"]): r["box_AP"] for r in rows}
    return [found[seed, better] - found[seed, worse] for seed, model in found if model == better]


def report(rows):
    """Return the report: every model with its differences to the standard one, and a verdict on each insight."""
    names = list(dict.fromkeys(r["model"] for r in rows))
    seeds = len({r["seed"] for r in rows})
    said = "one seed" if seeds == 1 else f"mean of {seeds} seeds"
    lines = [f"{'':<14}{'box AP':>15}{'mask AP':>16}{'kept':>7}{'GMACs':>15}{'ms':>12}   ({said})"]
    lines += [_line(rows, name) for name in ("dense", "standard")]
    for better, worse, expected, insight in INSIGHTS:
        if {better, worse} <= set(names):
            won = gains(rows, better, worse)
            verdict = _verdict(statistics.mean(won), expected)
            spread = f", from {min(won):+.3f} to {max(won):+.3f}" if seeds > 1 else ""
            lines += [
                "",
                insight,
                _line(rows, worse),
                f"  {better} against {worse}: box AP {statistics.mean(won):+.3f}{spread}: {verdict} ({said})",
            ]
    if "packed" in names:
        faster = {other: mean(rows, "packed", f"step_speedup_vs_{other}") for other in ("standard", "dense")}
        lines += [
            "",
            "Packed training (not in the paper)",
            _line(rows, "packed"),
            f"  its training step is {faster['standard']:.2f} times as fast as the exact mode's (standard) and "
            f"{faster['dense']:.2f} times as fast as the dense one's",
        ]
    return "\n".join(
        [
            *lines,
            "",
            "In brackets: difference to standard; for ms, the ratio to standard. GMACs: one multiply-add counts as 1. "
            f"A difference of up to {CLOSE} box AP is not significant.",
        ]
    )


def _verdict(won, expected):
    if expected == "as good":
        return "agrees with the paper" if won >= -CLOSE else "does not agree with the paper"
    if abs(won) <= CLOSE:
        return "too close to tell"
    return "agrees with the paper" if won > 0 else "does not agree with the paper"


def _line(rows, name):
    box, mask, gmacs, ms, keep = (mean(rows, name, f) for f in ("box_AP", "mask_AP", "gmacs", "ms", "keep_ratio"))
    box_0, mask_0, gmacs_0, ms_0 = (mean(rows, "standard", f) for f in ("box_AP", "mask_AP", "gmacs", "ms"))
    return (
        f"{name:<14}{box:>6.3f} ({box - box_0:+.3f}){mask:>7.3f} ({mask - mask_0:+.3f}){keep:>7.0%}"
        f"{gmacs:>7.2f} ({gmacs - gmacs_0:+.2f}){ms:>5.0f} ({ms / ms_0:.0%})"
    )


def draw(rows, path):
    """Plot box AP against GMACs: the mean over the seeds of each model, with bars from the worst to the best seed."""
    axes = (figure := Figure(figsize=(7, 4.5), layout="constrained")).subplots()
    for name in dict.fromkeys(r["model"] for r in rows):
        points = [r["box_AP"] for r in rows if r["model"] == name]
        middle, (colour, marker) = statistics.mean(points), STYLE_OF[name]
        axes.errorbar(
            mean(rows, name, "gmacs"),
            middle,
            [[middle - min(points)], [max(points) - middle]],
            color=colour,
            marker=marker,
            markersize=9,
            linestyle="",
            capsize=3,
            label=name,
        )
    axes.set(
        xlabel="GMACs of the whole model",
        ylabel="box AP",
        title="SViT's insights on digit scenes",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as part:
        figure.savefig(part, dpi=150)


def main():
    args = parse_args()
    folder = Path(args.work_dir)
    lock_settings(
        folder,
        "a comparison",
        CONFIGS,
        images=list(args.images),
        epochs=args.epochs,
        dense=args.dense,
        timed=args.timed,
    )
    call(
        ROOT / "tools/dataset_converters/digit_scenes.py",
        "data/digit_scenes",
        "--train",
        args.images[0],
        "--val",
        args.images[1],
    )
    epochs = args.epochs or (None, None)
    dense = args.dense or trained("dense", folder, epochs[0], seed=0)
    rows = []
    for seed in args.seeds:
        here = folder / f"seed_{seed}"
        checkpoints = {"dense": dense}
        for name in ("standard", *(v for v in VARIANTS if v in args.variants)):
            checkpoints[name] = trained(name, here, epochs[1], seed, start=dense)
        rows += measure(checkpoints, here, seed, args.timed)
    write_json(folder / "rows.json", rows)
    draw(rows, folder / "insights.png")
    print("\n" + report(rows))


if __name__ == "__main__":
    run(main)
