"""bf16 autocast against fp32: the losses of one batch, and the scores of briefly trained nano models.

Shapes: B images.
"""

import json
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.runner import Runner

from mmcv_custom.cli.launch import build_model, read_config

ROOT = Path(__file__).resolve().parents[2]
LOSS, SCORE = 0.03, 2.0  # tolerances: relative; points of 100


class Model(NamedTuple):
    """A nano model: config, data set with the arguments of its converter, score, epochs that beat chance."""

    config: str
    data: tuple
    score: str
    epochs: int


MODELS = {
    "classifier": Model("configs/deit/digits/deit-nano_digits.py", ("digits",), "accuracy/top1", 3),
    "segmentor": Model(
        "configs/segvit/vit-nano_segvit_digit-scenes-128.py",
        ("digit_scenes", "--train", 400, "--val", 40),
        "mIoU",
        3,
    ),
    "detector": Model(
        "configs/quickstart/digits_svit-adapter-nano.py",
        ("digit_scenes", "--train", 400, "--val", 40),
        "coco/bbox_mAP",
        8,
    ),
}


def losses(config: Path, folder: Path, batch: int = 4) -> tuple[dict, dict]:
    """Return name -> loss of one batch in fp32 and in bf16 autocast, of the same random numbers and weights."""
    cfg = read_config(str(config))
    loader = cfg.train_dataloader
    loader.batch_size, loader.num_workers, loader.persistent_workers = batch, 0, False
    loader.dataset.data_root = str(folder / loader.dataset.data_root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = build_model(cfg, None).train()
        data = next(iter(Runner.build_dataloader(loader, seed=0)))
    found = []
    for bf16 in (False, True):
        torch.manual_seed(0)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            made = model(**model.data_preprocessor(data, True), mode="loss")
        found.append({name: float(sum(v) if isinstance(v, list) else v) for name, v in made.items() if "loss" in name})
    return found[0], found[1]


def compare(project, names: list[str]) -> list[dict]:
    """Return rows of the losses and the scores of the named ``MODELS``, trained in the project's folder."""
    rows = []
    for name in names:
        model = MODELS[name]
        project.add_data(*model.data)
        config = ROOT / model.config
        whole, half = losses(config, project.folder)
        total = sum(whole.values())
        difference = abs(sum(half.values()) - total) / abs(total)
        rows.append(_row(name, "loss of a batch, relative", difference, LOSS))
        options = [f"train_cfg.max_epochs={model.epochs}", f"train_cfg.val_interval={model.epochs}", "load_from=None"]
        workers = [f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")]
        workers += [f"{split}_dataloader.persistent_workers=False" for split in ("train", "val", "test")]
        work_dir = project.folder / name
        tool = [ROOT / "tools/train.py", config, "--work-dir", work_dir, "--cfg-options", *options, *workers]
        project.launch([tool], [{}], project.folder)
        scores = []
        for fp16 in (False, True):  # the loop's own autocast, which is bf16 on CPU
            file = project.folder / f"{name}_{fp16}.json"
            tool = [ROOT / "tools/test.py", config, work_dir / f"epoch_{model.epochs}.pth", "--scores", file]
            project.launch([[*tool, "--cfg-options", f"test_cfg.fp16={fp16}", *workers]], [{}], project.folder)
            score = json.loads(file.read_text())[model.score]
            scores.append(score if model.score != "coco/bbox_mAP" else 100 * score)
        text = f"{model.score} of 100: {scores[0]:.1f} in fp32, {scores[1]:.1f} in bf16"
        rows.append(_row(name, text, abs(scores[0] - scores[1]), SCORE))
    return rows


def _row(name: str, compared: str, difference: float, tolerance: float) -> dict:
    return dict(what=f"bf16 autocast and fp32, {name}", compared=compared, difference=difference, tolerance=tolerance)
