"""Run the whole workflow on generated data and show what pruning gains.

Draw digit scenes of 640 px, fine-tune a pruned detector from the dense weights that come with the project, evaluate
and time both, and write a report. Everything runs through the ordinary tools: their commands and what they print are
in work_dirs/demo/logs. Finished training is not repeated and interrupted training is resumed.

    make demo
    make demo ARGS=--fine-tune-dense    # the dense detector is trained for as many further steps and compared, too
    make demo ARGS=--from-scratch       # a nano detector at 256 px, the dense one trained here, too
"""

import argparse
import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from compare import ROOT, Model, check_timed, evaluate, image_folder, print_rows, result_rows
from demo_report import summary, write_report
from phases import Phases, duration

from mmcv_custom.cli.launch import read_config, run
from mmcv_custom.cli.subprocess_tools import lock_settings
from mmcv_custom.errors import ConfigError
from mmcv_custom.results import write_json

QUICKSTART = ROOT / "configs/quickstart"


@dataclass(frozen=True)
class Recipe:
    """One of the two demonstrations.

    Attributes:
        dense, pruned: names of the configs.
        fine_tuned: name of the config that trains the dense model for as many further steps as the pruned one.
        weights: the dense weights; None trains them.
        images: numbers of training and validation images.
        scenes: further arguments of digit_scenes.py.
        seconds: expected seconds of drawing, dense training, pruned training, an evaluation, timing one image.
    """

    dense: str
    pruned: str
    fine_tuned: str | None
    weights: Path | None
    images: tuple[int, int]
    scenes: tuple[object, ...]
    seconds: tuple[float, float, float, float, float]


SHIPPED = Recipe(
    dense="digits_vit-adapter-t",
    pruned="digits_svit-adapter-t",
    fine_tuned="digits_vit-adapter-t_ftune",
    weights=QUICKSTART / "weights/digits_vit-adapter-t.safetensors",
    images=(400, 100),
    scenes=("--size", 640, "--digit-scale", 0.4),
    seconds=(35, 400, 390, 60, 2.0),
)
FROM_SCRATCH = Recipe(
    dense="digits_vit-adapter-nano",
    pruned="digits_svit-adapter-nano",
    fine_tuned=None,
    weights=None,
    images=(1000, 200),
    scenes=(),
    seconds=(15, 420, 100, 35, 0.5),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--from-scratch", action="store_true", help="nano detectors at 256 px: train the dense one here, then prune it"
    )
    parser.add_argument(
        "--fine-tune-dense",
        action="store_true",
        help="also train the shipped dense weights for as many further steps as the pruned ones",
    )
    parser.add_argument(
        "--work-dir", default="work_dirs", help="folder of the trainings and of the report (default: work_dirs)"
    )
    parser.add_argument(
        "--images", nargs=2, type=int, metavar=("TRAIN", "VAL"), help="default: 400 100; from scratch 1000 200"
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of every training (default: the configs')")
    parser.add_argument("--timed", type=int, default=30, metavar="N", help="images to time on (default: 30)")
    args = parser.parse_args()
    if args.from_scratch and args.fine_tune_dense:
        parser.error("--fine-tune-dense is for the shipped weights: leave --from-scratch out")
    check_timed(args.timed)
    return args


class Demo:
    """One run of the demo: its settings, its phases and the commands of each.

    Args:
        args: the command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.recipe = args, FROM_SCRATCH if args.from_scratch else SHIPPED
        self.images = tuple(args.images or self.recipe.images)
        self.work_dir = Path(args.work_dir)
        self.folder = self.work_dir / ("demo_from-scratch" if args.from_scratch else "demo")
        self.trained = [self.recipe.dense] if self.recipe.weights is None else []
        self.trained.append(self.recipe.pruned)
        if args.fine_tune_dense:
            self.trained.append(self.recipe.fine_tuned)
        configs = {name: QUICKSTART / f"{name}.py" for name in (self.recipe.dense, *self.trained)}
        self.configs = {name: read_config(str(path)) for name, path in configs.items()}
        lock_settings(self.folder, "a demo", configs, images=list(self.images), epochs=args.epochs)
        self.phases = Phases(self.folder / "logs", self.plan())

    def plan(self) -> list[tuple[str, float]]:
        """Return (text, expected seconds) of every phase."""
        draw, dense, pruned, test, timing = self.recipe.seconds
        plan = [(f"drawing {sum(self.images)} scenes", draw)]
        for name in self.trained:
            seconds = dense if name == self.recipe.dense else pruned
            expected = 0.0 if self.checkpoint(name).exists() else seconds
            plan.append((f"training {name}: {self.steps(name)} steps", expected))
        plan += [(f"evaluating the model {model.name}", test) for model in self.models()]
        return [*plan, ("timing them in turns", timing * self.args.timed), ("writing the report", 10)]

    def steps(self, name: str) -> int:
        """Return the number of training steps of a config."""
        return self.epochs(name) * -(-self.images[0] // self.configs[name].train_dataloader.batch_size)

    def epochs(self, name: str) -> int:
        """Return the epochs of a config's training."""
        return self.args.epochs or self.configs[name].train_cfg.max_epochs

    def checkpoint(self, name: str) -> Path:
        """Return the file that the training of a config ends with: where tools/train.py writes it by default."""
        return self.work_dir / name / f"epoch_{self.epochs(name)}.pth"

    def models(self) -> list[Model]:
        """Return the models to compare, the dense one first."""

        def model(name: str, config: str) -> Model:
            weights = self.recipe.weights if config not in self.trained else self.checkpoint(config)
            return Model(name, str(QUICKSTART / f"{config}.py"), str(weights))

        found = [model("dense", self.recipe.dense), model("pruned", self.recipe.pruned)]
        return found + [model("dense_ftune", self.recipe.fine_tuned)] if self.args.fine_tune_dense else found

    def draw(self) -> None:
        """Draw the scenes, unless they are there."""
        folder = self.configs[self.recipe.dense].data_root
        train, val = self.images
        script = ROOT / "tools/dataset_converters/digit_scenes.py"
        self.phases.call(script, folder, "--train", train, "--val", val, *self.recipe.scenes)

    def train(self, name: str) -> None:
        """Train the model of a config with tools/train.py, unless that is done.

        Raises:
            ConfigError: the work dir holds a longer training.
        """
        checkpoint, epochs = self.checkpoint(name), self.epochs(name)
        if checkpoint.exists():
            return
        # Every model is evaluated once, at the end.
        options = ["train_cfg.val_begin=1000", f"train_cfg.max_epochs={epochs}", f"param_scheduler.1.end={epochs}"]
        start = self.recipe.weights or (self.checkpoint(self.recipe.dense) if name != self.recipe.dense else None)
        load = ["--load-from", start] if start else []
        command = [ROOT / "tools/train.py", QUICKSTART / f"{name}.py", "--work-dir", checkpoint.parent, "--resume"]
        self.phases.call(*command, *load, "--cfg-options", *options)
        if not checkpoint.exists():
            raise ConfigError(
                f"{checkpoint.parent} holds a training of other length: delete it, or choose another --work-dir"
            )

    def run(self) -> None:
        """Run all phases and print what was found."""
        began = time.monotonic()
        with self.phases.next():
            self.draw()
        for name in self.trained:
            with self.phases.next():
                self.train(name)
        models, scores = self.models(), []
        for model in models:
            with self.phases.next():
                scores.append(evaluate(model, self.folder, start=self.phases.call))
        further = self.steps(self.recipe.pruned)
        with self.phases.next():
            rows = result_rows(
                models,
                scores,
                self.args.timed,
                data=f"{self.images[1]} digit scenes, validation",
                further_steps=further,
                command=" ".join(["make demo", *([f"ARGS='{shlex.join(sys.argv[1:])}'"] if sys.argv[1:] else [])]),
            )
        write_json(self.folder / "results.json", rows)
        with self.phases.next():
            write_report(self.folder / "report.html", rows, models, image_folder(self.configs[self.recipe.dense]))
        print()
        print_rows(rows)
        print(f"\n{summary(rows)}")
        print(f"Done in {duration(time.monotonic() - began)}: {self.folder / 'report.html'}")
        print("\n".join(["\nTo try next:", *(f"  {command}" for command in self.next_commands(models[1]))]))

    def next_commands(self, pruned: Model) -> list[str]:
        """Return three commands that use the pruned model."""
        python = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else sys.executable
        config = os.path.relpath(pruned.config)
        image = next(iter(sorted(image_folder(self.configs[self.recipe.dense]).iterdir())))
        return [
            f"{python} tools/web_demo",
            f"{python} selector_demo.py {image} {config} {pruned.checkpoint} --out work_dirs/selector_demo",
            f"{python} tools/test.py {config} {pruned.checkpoint} --cfg-options model.backbone.reducer.ratio_scale=0.7",
        ]


def main() -> None:
    # For the tools that this process starts: their waiting threads sleep, which costs little in training and helps
    # where the CPU is shared. The networks are timed here, with PyTorch's own default, as a user's program runs them.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    Demo(parse_args()).run()


if __name__ == "__main__":
    run(main)
