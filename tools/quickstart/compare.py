"""Evaluate models and time them, interleaved, on the same images: one result row each.

    python tools/quickstart/compare.py dense=CONFIG=CHECKPOINT pruned=CONFIG=CHECKPOINT --out rows.json

The models are detectors, segmentors or classifiers of one data set. CHECKPOINT may be ``random``: operations and times
are valid then, scores are not.
"""

import argparse
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config

from mmcv_custom.benchmark import BenchmarkCase, BenchmarkSettings, measure
from mmcv_custom.cli.launch import build_model, read_config, run
from mmcv_custom.cli.subprocess_tools import ROOT, call
from mmcv_custom.errors import ConfigError
from mmcv_custom.files import write_file
from mmcv_custom.results import row, write_json
from token_pruning.reducer import find_method

WARM_UP = 3
# Score of an evaluator -> field of the row, and how the terminal calls it.
SCORES = {
    "coco/bbox_mAP": ("box_AP", "box AP"),
    "coco/bbox_mAP_50": ("box_AP50", "box AP50"),
    "coco/segm_mAP": ("mask_AP", "mask AP"),
    "coco/segm_mAP_50": ("mask_AP50", "mask AP50"),
    "mIoU": ("mIoU", "mIoU"),
    "accuracy/top1": ("top1", "top-1"),
}
# Fields of a benchmark's row that a compared model's row takes over.
TIMED = (
    "keep_ratio",
    "keep",
    "keep_by_block",
    "pruned_blocks",
    "positions",
    "gmacs",
    "gmacs_std",
    "block_gmacs",
    "ms_quartiles",
    "speedup_vs_dense",
    "speedup_vs_dense_quartiles",
    "ms_backbone",
    "ms_neck",
    "ms_heads",
    "batch",
    "num_images",
    "parameters",
)


class Model(NamedTuple):
    """A model to compare: its name in the rows, its config and its weights (``random`` for none)."""

    name: str
    config: str
    checkpoint: str


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=CONFIG=CHECKPOINT")
    parser.add_argument("--out", default="work_dirs/compare/rows.json", help="default: work_dirs/compare/rows.json")
    parser.add_argument("--timed", type=int, default=40, metavar="N", help="images to time on (default: 40)")
    parser.add_argument(
        "--keep-ratio",
        choices=("checkpoint", "config"),
        help="tokens that pruned blocks keep: what the trained selectors select, or exactly the config's ratios "
        "(default: checkpoint; config with random weights)",
    )
    args = parser.parse_args()
    check_timed(args.timed)
    return args


def check_timed(number: int) -> None:
    """Raise ConfigError if ``number`` is no number of images to time on."""
    if number < 1:
        raise ConfigError(f"--timed {number}: give at least 1 image")


def evaluate(
    model: Model, folder: Path, keep: str = "checkpoint", start: Callable[..., None] = call
) -> dict[str, float]:
    """Return the scores of one model from tools/test.py, by the names of its evaluator.

    Args:
        folder: where the scores and the log go.
        keep: "config" makes a reducer that has modes keep exactly the config's ratios.
        start: runs the command.
    """
    scores = folder / f"{model.name}_scores.json"
    options = _exact_ratios(read_config(model.config)) if keep == "config" else []
    options = ["--cfg-options", *options] if options else []
    work_dir = folder / f"{model.name}_test"
    start(ROOT / "tools/test.py", model.config, model.checkpoint, "--work-dir", work_dir, "--scores", scores, *options)
    return json.loads(scores.read_text())


def _exact_ratios(cfg: Config) -> list[str]:
    reducer = cfg.model.backbone.get("reducer")
    has_modes = reducer is not None and "mode" in inspect.signature(find_method(reducer.type)).parameters
    return ["model.backbone.reducer.mode=ratio"] if has_modes else []


def result_rows(
    models: Sequence[Model],
    scores: Sequence[dict],
    number: int,
    keep: str = "checkpoint",
    images: Path | None = None,
    **circumstances: object,
) -> list[dict]:
    """Time and count the models on the same test images, interleaved, and return one row per model.

    Times are of the network with post-processing, batch 1. ``speedup_vs_dense`` is the median of the ratios of
    neighbouring measurements.

    Args:
        scores: the scores of every model, see ``evaluate``.
        number: images to time on.
        images: folder of these images (default: the first config's test images).
        circumstances: further fields.
    """
    cfg = read_config(models[0].config)
    settings = BenchmarkSettings(
        device="cuda" if torch.cuda.is_available() else "cpu",
        images=str(images or image_folder(cfg)),
        repeats=number,
        warmup=min(WARM_UP, number),
    )
    cases = [BenchmarkCase(model.config, model.checkpoint, keep=keep) for model in models]
    rows = []
    for model, found, timed in zip(models, scores, measure(cases, settings), strict=True):
        rows.append(
            row(
                model=model.name,
                method=(read_config(model.config).model.backbone.get("reducer") or dict(type="dense"))["type"],
                **{field: found[score] for score, (field, _) in SCORES.items() if score in found},
                ms=timed["ms_median"],
                **{field: timed[field] for field in TIMED if field in timed},
                **circumstances,
            )
        )
    return rows


def image_folder(cfg: Config) -> Path:
    """Return the folder of the test images of a config."""
    dataset = cfg.test_dataloader.dataset
    prefix = dataset.get("data_prefix") or {}
    inner = prefix if isinstance(prefix, str) else prefix.get("img", prefix.get("img_path", ""))
    return Path(dataset.get("data_root") or "") / inner


def print_rows(rows: Sequence[dict]) -> None:
    """Print one line per row."""
    for r in rows:
        faster = ""
        if r["pruned_blocks"] and "speedup_vs_dense" in r:
            low, high = r["speedup_vs_dense_quartiles"]
            faster = f", {r['speedup_vs_dense']:.2f} [{low:.2f}, {high:.2f}] times as fast as the dense one"
        scores = ", ".join(f"{name} {r[field]:.3f}" for field, name in SCORES.values() if field in r)
        backbone = f", backbone {r['ms_backbone']:.0f} ms" if "ms_backbone" in r else ""
        print(
            f"{r['model']:>7}: {scores}, {r['keep_ratio']:.0%} of the tokens kept in the pruned blocks, "
            f"{r['gmacs']:.2f} GMACs, {r['ms']:.0f} ms{backbone}{faster}"
        )


def with_files(models: Sequence[Model], folder: Path) -> list[Model]:
    """Return the models with a file of random weights in place of ``random``."""
    found = []
    for model in models:
        if model.checkpoint == "random":
            path = folder / f"{model.name}_random.pth"
            state = build_model(read_config(model.config), None).state_dict()
            write_file(path, lambda file, state=state: torch.save(dict(state_dict=state), file))
            model = model._replace(checkpoint=str(path))
        found.append(model)
    return found


def main() -> None:
    args = parse_args()
    given = [tuple(spec.split("=", 2)) for spec in args.models]
    for parts, text in zip(given, args.models, strict=True):
        if len(parts) != 3:
            raise ConfigError(f"{text}: write NAME=CONFIG=CHECKPOINT, or NAME=CONFIG=random")
    models = [Model(*parts) for parts in given]
    folder = Path(args.out).parent
    folder.mkdir(parents=True, exist_ok=True)
    random = any(model.checkpoint == "random" for model in models)
    keep = args.keep_ratio or ("config" if random else "checkpoint")
    models = with_files(models, folder)
    scores = [evaluate(model, folder, keep) for model in models]
    print("\nTiming all models on the same images, interleaved ...", flush=True)
    rows = result_rows(models, scores, args.timed, keep, weights="random" if random else "trained")
    write_json(args.out, rows)
    print_rows(rows)


if __name__ == "__main__":
    run(main)
