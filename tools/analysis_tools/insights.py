"""The SViT paper's four insights in miniature: fine-tunes every variant from one dense nano detector on digit scenes,
with the same recipe, budget and seed, evaluates and times all in turns, and says what came out.

    python tools/analysis_tools/insights.py --seeds 0

Rows go to rows.json in the work dir, box AP against GMACs to insights.png. Run again, it goes on where it stopped:
what is trained or measured is not done twice, and more seeds or variants can be added.
"""

import argparse
import json
import statistics
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS

from mmcv_custom.benchmark.timing import compare
from mmcv_custom.cli.launch import build_model, run
from mmcv_custom.cli.subprocess_tools import ROOT, call, lock_settings, train
from mmcv_custom.results import row, write_json

CONFIGS = {
    "dense": ROOT / "configs/quickstart/digits_vit-adapter-nano.py",
    "standard": ROOT / "configs/quickstart/digits_svit-adapter-nano.py",
}
VARIANTS = ["discarded", "inherited", "fixed-rate", "heavier-gate", "packed"]
CONFIGS |= {name: ROOT / f"configs/quickstart/insights/digits_svit-adapter-nano_{name}.py" for name in VARIANTS}
CLOSE = 0.005  # a difference in box AP up to this says nothing
ROUNDS = 15  # of timed training steps
# What follows the paper, what does not, what the paper lets one expect of it, the insight. Discarded tokens cannot come
# back, so what lost values cost shows against inherited ones, which cannot either.
INSIGHTS = [
    ("inherited", "discarded", "better", "1. Preserve pruned tokens in the map"),
    ("standard", "inherited", "better", "2. Let later blocks reactivate them"),
    ("standard", "fixed-rate", "better", "3. Let the rate differ from image to image"),
    ("standard", "heavier-gate", "as good", "4. A two-layer MLP is enough to select"),
]
# Okabe and Ito's palette, and markers: told apart by colour-blind readers, too.
LOOKS = dict(
    zip(
        CONFIGS,
        [
            ("#000000", "*"),
            ("#0072b2", "o"),
            ("#d55e00", "X"),
            ("#e69f00", "v"),
            ("#009e73", "s"),
            ("#cc79a7", "D"),
            ("#56b4e9", "^"),
        ],
        strict=True,
    )
)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of the fine-tuning (default: 0)")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS, help="default: all")
    parser.add_argument("--dense", metavar="CHECKPOINT", help="start from this one instead of training it")
    parser.add_argument("--epochs", nargs=2, type=int, metavar=("DENSE", "PRUNED"), help="default: the configs'")
    parser.add_argument("--images", nargs=2, type=int, metavar=("TRAIN", "VAL"), default=(1000, 200))
    parser.add_argument("--timed", type=int, default=40, metavar="N", help="images to time on (default: 40)")
    parser.add_argument("--work-dir", default="work_dirs/insights")
    return parser.parse_args()


def trained(name, folder, epochs, seed, start=None):
    """The checkpoint of one model; all are evaluated once, at the end."""
    epochs = epochs or Config.fromfile(CONFIGS[name]).train_cfg.max_epochs
    return train(CONFIGS[name], folder / name, seed, epochs, start, [f"param_scheduler.1.end={epochs}"])


def measure(checkpoints, folder, seed, timed):
    """The rows of one seed, from tools/quickstart/compare.py unless they are there."""
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
    """How long forward and backward of a training batch take in packed mode, against exact mode and dense, in turns."""
    device, steps, batch = get_device(), {}, None
    for name in ("packed", "standard", "dense"):
        cfg = Config.fromfile(CONFIGS[name])
        model = build_model(cfg, checkpoints[name]).to(device).train()
        if batch is None:
            loader = cfg.train_dataloader
            dataset = DATASETS.build(dict(loader.dataset, _scope_=cfg.default_scope))
            batch = pseudo_collate([dataset[i] for i in range(min(loader.batch_size, len(dataset)))])
        steps[name] = partial(_step, model, model.data_preprocessor(batch, True))
    return {f"step_{field}": value for field, value in compare(steps, torch.device(device), ROUNDS, times=5).items()}


def _step(model, data):
    loss, _ = model.parse_losses(model(**data, mode="loss"))
    loss.backward()
    model.zero_grad()


def mean(rows, name, field):
    """Of one model over all seeds."""
    return statistics.mean(r[field] for r in rows if r["model"] == name)


def gains(rows, better, worse):
    """Box AP that one model has over another, by seed."""
    found = {(r["seed"], r["model"]): r["box_AP"] for r in rows}
    return [found[seed, better] - found[seed, worse] for seed, model in found if model == better]


def report(rows):
    """The text: every model with its differences to the standard one, and a verdict on each insight."""
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
            "Packed training (no claim of the paper)",
            _line(rows, "packed"),
            f"  its training step is {faster['standard']:.2f} times as fast as the exact mode's (standard) and "
            f"{faster['dense']:.2f} times as fast as the dense one's",
        ]
    return "\n".join(
        [
            *lines,
            "",
            "In brackets: difference to standard; of ms, the share of standard's. A multiply-add "
            f"counts 2. A difference of up to {CLOSE} box AP says nothing.",
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
    """Box AP against GMACs, one marker a model; over several seeds their mean, with bars from worst to best."""
    axes = (figure := Figure(figsize=(7, 4.5), layout="constrained")).subplots()
    for name in dict.fromkeys(r["model"] for r in rows):
        points = [r["box_AP"] for r in rows if r["model"] == name]
        middle, (colour, marker) = statistics.mean(points), LOOKS[name]
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
        xlabel="GMACs of the whole net (a multiply-add counts 2)",
        ylabel="box AP",
        title="SViT's insights on digit scenes",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


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
