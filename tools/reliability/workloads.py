"""Small runs of training, evaluation, data-set conversion and checkpoint conversion, and how their results compare."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from forked import ROOT, run

from mmcv_custom.checkpoint import read_checkpoint

CONVERTERS = "tools/dataset_converters"
FEW = [f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")]
FEW += ["default_hooks.logger.interval=1", "load_from=None"]
SCENES = ["train_dataloader.dataset.indices=8", "val_dataloader.dataset.indices=2", "test_dataloader.dataset.indices=2"]
SMALL = [
    f"{split}_dataloader.dataset.pipeline.{i}.scale=(64,64)" for split, i in (("train", 2), ("val", 1), ("test", 1))
]
ITERATIONS = "iterations.py"  # a config that prepare() writes
# Name -> config and options; together they cover class folders, Gumbel noise, and a training counted in iterations.
TRAININGS = {
    "classification": (
        "deit/digits/svit_deit-nano_digits.py",
        ["train_cfg.max_epochs=3", "train_cfg.val_interval=1", "train_dataloader.batch_size=8"]
        + ["train_dataloader.dataset.indices=24", "val_dataloader.dataset.indices=8"]
        + ["test_dataloader.dataset.indices=8", "default_hooks.checkpoint.save_best=accuracy/top1"],
    ),
    "detection": (
        "quickstart/digits_svit-adapter-nano.py",
        ["train_cfg.max_epochs=3", "train_cfg.val_interval=3", "train_dataloader.batch_size=4", *SCENES, *SMALL]
        + ["train_dataloader.num_workers=1", "default_hooks.checkpoint.max_keep_ckpts=1"],
    ),
    "segmentation": (ITERATIONS, ["train_dataloader.batch_size=2", *SCENES]),
}
COUNTED_IN_ITERATIONS = """
_base_ = {base!r}
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=6, val_interval=3)
train_dataloader = dict(sampler=dict(type="InfiniteSampler"))
param_scheduler = [dict(type="PolyLR", eta_min=0.0, power=0.9, begin=0, end=6, by_epoch=False)]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2), logger=dict(log_metric_by_epoch=False))
log_processor = dict(by_epoch=False)
"""
LAST = dict(classification="epoch_3.pth", detection="epoch_3.pth", segmentation="iter_6.pth")


@dataclass(frozen=True)
class Work:
    """One command that is killed and run again.

    Attributes:
        command: path of a tool and its arguments; it is run in a folder of its own beside the folder ``data``.
        result: from that folder to what must be equal after a run that was killed and repeated; None if it is missing.
        tidy: whether a result that is there must be right, and nothing but results may be left beside it.
    """

    command: Sequence[object]
    result: Callable[[Path], object]
    tidy: bool = False


def prepare(folder: Path) -> None:
    """Make the data sets in ``folder/data``."""
    (folder / "data").mkdir(parents=True)
    base = str(ROOT / "configs/segvit/vit-nano-dtop_segvit_digit-scenes-128.py")
    (folder / "data" / ITERATIONS).write_text(COUNTED_IN_ITERATIONS.format(base=base))
    well(folder, f"{CONVERTERS}/digits.py", "data/digits")
    well(folder, f"{CONVERTERS}/digit_scenes.py", "data/digit_scenes", "--train", 8, "--val", 4)


def well(folder: Path, *command: object) -> None:
    """Run a tool; raise RuntimeError if it fails."""
    ended = run(folder, *command)
    if ended.status:
        raise RuntimeError(f"{command[0]} ended with status {ended.status}: {ended.said[-3000:]}")


def training(name: str, work_dir: str = "run") -> list[object]:
    """Return the command that trains or goes on with a training."""
    config, options = TRAININGS[name]
    path = f"data/{config}" if config == ITERATIONS else ROOT / "configs" / config
    return ["tools/train.py", path, "--work-dir", work_dir, "--resume", "--cfg-options", *FEW, *options]


def weights(path: Path) -> Mapping[str, torch.Tensor] | None:
    """Return the weights in a checkpoint, or None if there is no file."""
    return read_checkpoint(path)["state_dict"] if path.exists() else None


def hashes(folder: Path) -> dict[str, str] | None:
    """Return relative name -> hash of the files below ``folder``, hidden ones left out; None if there are none."""
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    names = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    return {str(name): hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names} or None


def equal(a: object, b: object) -> bool:
    """Return whether two results are equal, tensors bit by bit."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(equal(a[name], b[name]) for name in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def works(kind: str, base: Path) -> dict[str, Work]:
    """Return name -> work of one kind: training, evaluation, dataset, conversion or picture."""
    kinds = dict(
        training=_trainings, evaluation=_evaluations, dataset=_datasets, conversion=_conversions, picture=_pictures
    )
    return kinds[kind](base)


def _trainings(base):
    return {
        name: Work(training(name), lambda folder, name=name: weights(folder / "run" / LAST[name])) for name in TRAININGS
    }


def _checkpoint(base, name):
    """Return a checkpoint of a training, trained once."""
    path = base / "weights" / LAST[name]
    path = path.with_name(f"{name}.pth")
    if not path.exists():
        well(base, *training(name, "trained"))
        path.parent.mkdir(exist_ok=True)
        (base / "trained" / LAST[name]).rename(path)
        for file in (base / "trained").glob("*.pth"):
            file.unlink()
        (base / "trained/last_checkpoint").unlink()
    return path


def _scores(folder):
    """Return the scores of an evaluation without its times."""
    path = folder / "scores.json"
    if not path.exists():
        return None
    return {k: v for k, v in json.loads(path.read_text()).items() if "time" not in k and "per_second" not in k}


def _evaluations(base):
    def command(name):
        config, options = TRAININGS[name]
        options = [option for option in [*FEW, *options] if option.startswith(("test_", "val_"))]
        written = ["--scores", "scores.json", "--out", "predictions.pkl", "--show-dir", "shown", "--work-dir", "run"]
        weights = _checkpoint(base, name)
        return ["tools/test.py", ROOT / "configs" / config, weights, *written, "--cfg-options", *options]

    return {name: Work(command(name), _scores) for name in ("classification", "detection")}


def _datasets(base):
    maps = base / "maps"
    if not maps.exists():
        for split in ("train", "val"):
            for name, source in (("images", split), ("masks", f"semantic/{split}")):
                (maps / name).mkdir(parents=True, exist_ok=True)
                for path in (base / "data/digit_scenes" / source).iterdir():
                    (maps / name / f"{split}{path.name}").write_bytes(path.read_bytes())
    scenes = [f"{CONVERTERS}/digit_scenes.py", "out", "--train", 6, "--val", 2, "--size", 64, "--overwrite"]
    own = ["tools/quickstart/finetune.py", maps, "--only-configs", "--work-dir", "out"]
    made = dict(
        digits=[f"{CONVERTERS}/digits.py", "out", "--overwrite"],
        digit_scenes=scenes,
        label_maps=own,
    )

    def result(name):
        # The configs are written last, and without them nothing reads the labels.
        last = "pruned.py" if name == "label_maps" else "."
        return lambda folder: hashes(folder / "out") if (folder / "out" / last).exists() else None

    return {name: Work(command, result(name), tidy=True) for name, command in made.items()}


def _conversions(base):
    seg, det = _checkpoint(base, "segmentation"), _checkpoint(base, "detection")
    made = {
        "publish_model.pth": ["publish_model.py", det, "out.pth"],
        "publish_model.safetensors": ["publish_model.py", det, "out.safetensors"],
        "to_published": ["to_published.py", det, "out.pth", "--to", "svit"],
        "to_mmseg": ["to_mmseg.py", seg, "out.pth"],
    }
    return {
        name: Work([f"tools/model_converters/{tool}", *rest], hashes, tidy=True) for name, (tool, *rest) in made.items()
    }


def _pictures(base):
    config, checkpoint = ROOT / "configs" / TRAININGS["detection"][0], _checkpoint(base, "detection")
    image = base / "data/digit_scenes/val/000000.jpg"
    demo = ["image_demo.py", image, config, checkpoint, "--out", "out", "--device", "cpu"]
    curves = ["tools/analysis_tools/plot_logs.py", base / "trained", "--out", "out"]
    return {
        name: Work(command, lambda folder: hashes(folder / "out"))
        for name, command in dict(demo=demo, logs=curves).items()
    }
