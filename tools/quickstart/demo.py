"""Run the whole workflow on generated data.

Draw digit scenes, train a dense nano detector, fine-tune the pruned one from it, evaluate and time both, and write a
report. Everything runs through the ordinary tools, and the commands are printed. Finished training is not repeated and
interrupted training is resumed, as long as the settings are the same.
"""

import argparse
import shlex
import sys
import time
from pathlib import Path

from compare import ROOT, compare, print_rows
from demo_report import write_report

from mmcv_custom.cli.launch import run
from mmcv_custom.cli.subprocess_tools import call, lock_settings
from mmcv_custom.engine.runner import latest_checkpoint
from mmcv_custom.results import write_json

CONFIGS = {
    "dense": ROOT / "configs/quickstart/digits_vit-adapter-nano.py",
    "pruned": ROOT / "configs/quickstart/digits_svit-adapter-nano.py",
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", default="work_dirs/demo", help="output folder of everything but the data")
    parser.add_argument("--images", nargs=2, type=int, metavar=("TRAIN", "VAL"), default=(1000, 200))
    parser.add_argument(
        "--epochs", nargs=2, type=int, metavar=("DENSE", "PRUNED"), help="default: those of the configs"
    )
    parser.add_argument("--timed", type=int, default=40, metavar="N", help="images to time on (default: 40)")
    return parser.parse_args()


def train(name: str, folder: Path, epochs: int | None, start: str | None = None) -> str | None:
    """Train one of the two models with tools/train.py and return its checkpoint."""
    options = ["train_cfg.val_begin=1000"]  # both models are evaluated once, at the end
    if epochs is not None:
        options += [f"train_cfg.max_epochs={epochs}", f"param_scheduler.1.end={epochs}"]
    load = ["--load-from", start] if start else []
    call(
        ROOT / "tools/train.py",
        CONFIGS[name],
        "--work-dir",
        folder / name,
        "--resume",
        *load,
        "--cfg-options",
        *options,
    )
    return latest_checkpoint(folder / name)


def main() -> None:
    args = parse_args()
    began = time.time()
    folder = Path(args.work_dir)
    lock_settings(folder, "a demo", CONFIGS, images=list(args.images), epochs=args.epochs)
    epochs = args.epochs or (None, None)
    call(
        ROOT / "tools/dataset_converters/digit_scenes.py",
        "data/digit_scenes",
        "--train",
        args.images[0],
        "--val",
        args.images[1],
    )
    dense = train("dense", folder, epochs[0])
    pruned = train("pruned", folder, epochs[1], start=dense)
    command = "make demo" if len(sys.argv) == 1 else f"make demo ARGS='{shlex.join(sys.argv[1:])}'"
    rows, models, dataset = compare(
        [("dense", CONFIGS["dense"], dense), ("pruned", CONFIGS["pruned"], pruned)],
        folder,
        args.timed,
        data="digit scenes, validation",
        command=command,
    )
    write_json(folder / "results.json", rows)
    write_report(folder / "report.html", rows, models, dataset)
    print_rows(rows)
    print(f"Done in {(time.time() - began) / 60:.1f} minutes: {folder / 'report.html'} and {folder / 'results.json'}")


if __name__ == "__main__":
    run(main)
