"""Check that the same training gives the same numbers however it is run, on nano models and digits.

    python tools/reliability/same_numbers.py --json rows.json
    python tools/reliability/same_numbers.py --checks processes accumulation

One process against two and four (gloo) with the same total batch; accumulated gradients against one batch; a run twice
in deterministic mode; a run that goes on with another number of processes; bf16 autocast against fp32. Models without
random layers are trained on images without augmentation, because every process draws its own random numbers. Each row
holds the largest difference and the tolerance; the exit status is 1 if one is exceeded.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import autocast_numbers
import torch
from rows import write_rows

from mmcv_custom.cli.launch import run
from mmcv_custom.errors import ConfigError
from mmcv_custom.results import row

ROOT = Path(__file__).resolve().parents[2]
CLASSIFIER = ROOT / "configs/deit/digits/deit-nano_digits.py"
DETECTOR = ROOT / "configs/quickstart/digits_vit-adapter-nano.py"
COMMON = [
    "default_hooks.logger.interval=1",
    "log_processor.window_size=1",  # not the mean of the last ten steps
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "load_from=None",
]
# Total batch and images of each model, and what makes its data the same in every process.
CLASSIFIER_DATA = (16, 96, ["train_dataloader.dataset.pipeline.1.padding=0"])
DETECTOR_DATA = (
    4,
    12,
    ["train_dataloader.dataset.pipeline.2.scale=(128,128)", "val_dataloader.dataset.pipeline.1.scale=(128,128)"],
)
CLOSE = 2e-4  # sums are taken in another order
# A detector's proposals pass thresholds, so that rounding changes which ones it learns from after the first step. What
# is allowed there is what noise of a millionth moves in one process, and some: one run is one sample of it.
NOISE, SLACK = "model.data_preprocessor.mean=[123.6751,116.2801,103.5301]", 3
Launch = Callable[[Sequence[list], Sequence[dict], Path], None]


class Project:
    """A folder with the digits data sets, and the trainings in it.

    Args:
        launch: starts commands side by side, each with its environment, in a folder, and waits for them.
    """

    def __init__(self, folder: Path, launch: Launch) -> None:
        self.folder, self.launch = folder, launch

    def add_data(self, name: str, converter: str, *options: object) -> None:
        """Write a data set with ``tools/dataset_converters/CONVERTER.py`` into data/NAME, once."""
        if not (self.folder / "data" / name).exists():
            tool = ROOT / f"tools/dataset_converters/{converter}.py"
            self.launch([[tool, f"data/{name}", *options]], [{}], self.folder)

    def train(
        self,
        name: str,
        config: Path,
        epochs: int,
        processes: int = 1,
        accumulate: int = 1,
        resume: bool = False,
        more: Sequence[str] = (),
    ) -> list[dict]:
        """Train in the folder ``name``, or resume there, and return the scalars of every step logged so far."""
        batch, images, data = CLASSIFIER_DATA if config == CLASSIFIER else DETECTOR_DATA
        if config == CLASSIFIER:
            self.add_data("digits", "digits")
        else:
            self.add_data("digit_scenes", "digit_scenes", "--train", images, "--val", 2)
        options = [
            *COMMON,
            *data,
            f"train_cfg.max_epochs={epochs}",
            "train_cfg.val_interval=100",
            f"train_dataloader.batch_size={batch // processes // accumulate}",
            f"train_dataloader.dataset.indices={images}",
            f"auto_scale_lr.base_batch_size={batch}",
            f"optim_wrapper.accumulative_counts={accumulate}",
            "param_scheduler=None",
            *more,
        ]
        flags = ["--resume"] if resume else []
        command = [ROOT / "tools/train.py", config, "--work-dir", name, *flags, "--cfg-options", *options]
        if processes == 1:
            self.launch([command], [{}], self.folder)
        else:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                meeting = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=free.getsockname()[1], WORLD_SIZE=processes)
            command[4:4] = ["--launcher", "pytorch"]
            self.launch(
                [command] * processes, [meeting | dict(RANK=r, LOCAL_RANK=r) for r in range(processes)], self.folder
            )
        files = sorted((self.folder / name).rglob("scalars.json"))
        lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return sorted((line for line in lines if "loss" in line), key=lambda line: line["step"])

    def weights(self, name: str, epoch: int) -> dict[str, torch.Tensor]:
        """Return the state dict of a training after an epoch."""
        # Its own training files hold more than tensors.
        file = torch.load(self.folder / name / f"epoch_{epoch}.pth", weights_only=False)
        return file["state_dict"]


def launch(commands: Sequence[list], environments: Sequence[dict], folder: Path) -> None:
    """Run commands side by side; raise ConfigError if one fails."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    started = []
    for command, environment in zip(commands, environments, strict=True):
        env = os.environ | dict(PYTHONPATH=path) | {name: str(value) for name, value in environment.items()}
        arguments = [sys.executable, *map(str, command)]
        said = tempfile.TemporaryFile("w+")
        started.append((subprocess.Popen(arguments, cwd=folder, env=env, stdout=said, stderr=said), said))
    for process, said in started:
        if process.wait():
            said.seek(0)
            raise ConfigError(f"{' '.join(map(str, process.args[1:3]))} failed: {said.read()[-2000:]}")


def relative(a: Sequence[dict], b: Sequence[dict], names: Sequence[str] = ("loss",)) -> float:
    """Return the largest relative difference of losses, step by step; raise ConfigError if the steps differ."""
    if [line["step"] for line in a] != [line["step"] for line in b]:
        raise ConfigError(f"the runs have {len(a)} and {len(b)} steps")
    return max(abs(x[n] - y[n]) / max(abs(x[n]), 1e-3) for x, y in zip(a, b, strict=True) for n in names)


def processes(project: Project, counts: Sequence[int] = (2, 4)) -> list[dict]:
    """Compare losses of one process with those of several with the same total batch."""
    found = []
    for name, config in (("classifier", CLASSIFIER), ("detector", DETECTOR)):
        one = project.train(f"{name}_1", config, 2)
        parts = [key for key in one[0] if "loss" in key]
        spans = {
            "every loss of the first step": (1, parts),
            "every loss of 3 steps": (3, parts),
            "loss of 2 epochs": (None, ["loss"]),
        }
        moved = project.train(f"{name}_moved", config, 2, more=[NOISE]) if config == DETECTOR else one
        for count in counts:
            several = project.train(f"{name}_{count}", config, 2, count)
            for span, (steps, names) in spans.items():
                difference, noise = (relative(one[:steps], other[:steps], names) for other in (several, moved))
                allowed = CLOSE if steps == 1 else max(CLOSE, SLACK * noise)
                found.append(_row(f"1 process and {count}, {name}", span, difference, allowed))
    return found


def accumulation(project: Project) -> list[dict]:
    """Compare losses of whole batches with those of halves whose gradients are accumulated."""
    whole = project.train("whole", CLASSIFIER, 2)
    halves = project.train("halves", CLASSIFIER, 2, accumulate=2)
    both = [(a["loss"] + b["loss"]) / 2 for a, b in zip(halves[::2], halves[1::2], strict=True)]
    joined = [dict(step=line["step"], loss=loss) for line, loss in zip(whole, both, strict=True)]
    return [_row("accumulated halves and batches, classifier", "loss of 2 epochs", relative(whole, joined), CLOSE)]


def determinism(project: Project) -> list[dict]:
    """Train twice with ``randomness.deterministic`` and compare all weights bitwise."""
    found = []
    for name, config in (("classifier", CLASSIFIER), ("detector", DETECTOR)):
        runs = []
        for copy in ("a", "b"):
            project.train(f"{name}_{copy}", config, 1, more=["randomness.deterministic=True", "randomness.seed=0"])
            runs.append(project.weights(f"{name}_{copy}", 1))
        different = sum(not torch.equal(a, runs[1][key]) for key, a in runs[0].items())
        found.append(_row(f"deterministic mode twice, {name}", "tensors of the weights that differ", different, 0))
    return found


def resumption(project: Project) -> list[dict]:
    """Train an epoch in one process, go on in two, then in one, and compare with one process throughout."""
    whole = project.train("throughout", CLASSIFIER, 3)
    for epochs, count in ((1, 1), (2, 2), (3, 1)):
        changed = project.train("changed", CLASSIFIER, epochs, count, resume=True)
    return [_row("resumed with 2 processes, then 1, classifier", "loss of 3 epochs", relative(whole, changed), CLOSE)]


def _row(what: str, compared: str, difference: float, tolerance: float) -> dict:
    return dict(what=what, compared=compared, difference=difference, tolerance=tolerance)


def autocast(project: Project) -> list[dict]:
    """Compare losses and scores of bf16 autocast with those of fp32."""
    return autocast_numbers.compare(project, list(autocast_numbers.MODELS))


CHECKS = dict(
    processes=processes, accumulation=accumulation, determinism=determinism, resumption=resumption, autocast=autocast
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE")
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.checks:
            for one in CHECKS[name](Project(Path(folder), launch)):
                print(f"{one['what']}: {one['compared']} {one['difference']:.2g} (tolerance {one['tolerance']:g})")
                found.append(row(kind="numbers", **one))
    write_rows(args.json, found)
    if any(not one["difference"] <= one["tolerance"] for one in found):
        raise SystemExit(1)


if __name__ == "__main__":
    run(main)
