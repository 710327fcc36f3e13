"""bf16 autocast against fp32: the losses of one batch, and the scores of models that can do their task.

Shapes: B images.
"""

import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.runner import Runner

from mmcv_custom.cli.launch import build_model, read_config

ROOT = Path(__file__).resolve().parents[2]
LOSS, SCORE = 0.03, 2.0  # tolerances: relative; points of 100
# A detector's losses are of the proposals that pass thresholds and are drawn. What they may differ by is what noise of
# bfloat16's size on the images moves in fp32, and some: one batch is one sample of it.
NOISE, SLACK = 2**-9, 3


class Model(NamedTuple):
    """A model that can do its task.

    Attributes:
        config: of the model.
        data: name of the data set, its converter and that one's options.
        score: name of the score.
        weights: file; None to train.
        epochs: of the training.
    """

    config: str
    data: tuple
    score: str
    weights: str | None = None
    epochs: int = 0


MODELS = {
    "classifier": Model("configs/deit/digits/deit-nano_digits.py", ("digits", "digits"), "accuracy/top1", epochs=20),
    "segmentor": Model(
        "configs/segvit/vit-nano_segvit_digit-scenes-128.py",
        ("digit_scenes", "digit_scenes", "--train", 400, "--val", 40),
        "mIoU",
        epochs=3,
    ),
    "detector": Model(
        "configs/quickstart/baselines/digits_tome-adapter-t.py",
        ("digit_scenes_640", "digit_scenes", "--size", 640, "--digit-scale", 0.4, "--train", 8, "--val", 100),
        "coco/bbox_mAP",
        weights="configs/quickstart/weights/digits_vit-adapter-t.safetensors",
    ),
}


def losses(config: Path, weights: Path, folder: Path, batch: int = 4) -> tuple[float, float, float]:
    """Return the loss of one batch in fp32, in bf16 autocast and in fp32 with noise, with the same random numbers."""
    cfg = read_config(str(config))
    loader = cfg.train_dataloader
    loader.batch_size, loader.num_workers, loader.persistent_workers = batch, 0, False
    loader.dataset.data_root = str(folder / loader.dataset.data_root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = build_model(cfg, str(weights)).train()
        data = next(iter(Runner.build_dataloader(loader, seed=0)))

    def loss(bf16: bool, noise: float = 0) -> float:
        torch.manual_seed(0)
        ready = model.data_preprocessor(data, True)
        generator = torch.Generator().manual_seed(1)
        ready["inputs"] = ready["inputs"] * (1 + noise * torch.randn(ready["inputs"].shape, generator=generator))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            made = model(**ready, mode="loss")
        return sum(float(sum(v) if isinstance(v, list) else v) for name, v in made.items() if "loss" in name)

    return loss(False), loss(True), loss(False, NOISE)


def compare(project: Any, names: list[str]) -> list[dict]:
    """Return rows of the losses and the scores of the named ``MODELS``; those without weights are trained first."""
    rows = []
    for name in names:
        model = MODELS[name]
        project.add_data(*model.data)
        config = ROOT / model.config
        workers = [f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")]
        weights, work_dir = ROOT / str(model.weights), project.folder / name
        if model.weights is None:
            epochs = f"train_cfg.max_epochs={model.epochs}", f"train_cfg.val_interval={model.epochs}"
            tool = [ROOT / "tools/train.py", config, "--work-dir", work_dir, "--cfg-options", *epochs, *workers]
            project.launch([[*tool, "load_from=None"]], [{}], project.folder)
            weights = work_dir / f"epoch_{model.epochs}.pth"
        whole, half, noisy = losses(config, weights, project.folder)
        allowed = max(LOSS, SLACK * abs(noisy / whole - 1))
        rows.append(_row(name, "loss of a batch, relative", abs(half / whole - 1), allowed))
        scores = []
        for fp16 in (False, True):  # the loop's own autocast, which is bf16 on CPU
            file = project.folder / f"{name}_{fp16}.json"
            tool = [ROOT / "tools/test.py", config, weights, "--work-dir", work_dir, "--scores", file, "--cfg-options"]
            project.launch([[*tool, f"test_cfg.fp16={fp16}", *workers]], [{}], project.folder)
            score = json.loads(file.read_text())[model.score]
            scores.append(score if model.score != "coco/bbox_mAP" else 100 * score)
        text = f"{model.score} of 100: {scores[0]:.1f} in fp32, {scores[1]:.1f} in bf16"
        rows.append(_row(name, text, abs(scores[0] - scores[1]), SCORE))
    return rows


def _row(name: str, compared: str, difference: float, tolerance: float) -> dict:
    return dict(what=f"bf16 autocast and fp32, {name}", compared=compared, difference=difference, tolerance=tolerance)
