"""Evaluate detectors and time them, interleaved, on the same images: one result row each.

    python tools/quickstart/compare.py dense=CONFIG=CHECKPOINT pruned=CONFIG=CHECKPOINT --out rows.json

CHECKPOINT may be ``random``: operations and times are valid then, scores are not.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from torch import nn

from mmcv_custom.benchmark.timing import milliseconds
from mmcv_custom.cli.launch import build_model, run
from mmcv_custom.cli.subprocess_tools import ROOT, call
from mmcv_custom.errors import ConfigError, building_from_config
from mmcv_custom.results import row, write_json
from token_pruning import Trace, count_flops
from token_pruning.methods.svit import MODES

WARM_UP = 3


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=CONFIG=CHECKPOINT")
    parser.add_argument("--out", default="work_dirs/compare/rows.json", help="default: work_dirs/compare/rows.json")
    parser.add_argument("--timed", type=int, default=40, metavar="N", help="images to time on (default: 40)")
    parser.add_argument("--mode", choices=MODES, help="how SViT selects tokens (default: as configured)")
    return parser.parse_args()


def evaluate(name: str, config: str | Path, checkpoint: str | Path, folder: Path, options: Sequence[str] = ()) -> dict:
    """Return the scores of one model from tools/test.py, by the names of its evaluator."""
    scores = folder / f"{name}_scores.json"
    options = ["--cfg-options", *options] if options else []
    call(
        ROOT / "tools/test.py", config, checkpoint, "--work-dir", folder / f"{name}_test", "--scores", scores, *options
    )
    return json.loads(scores.read_text())


def measure(models: dict[str, nn.Module], dataset: Sequence, number: int) -> dict[str, dict]:
    """Time and count detectors on the same images, interleaved, so that a busy machine slows all of them alike.

    Returns:
        name -> dict with the median ms per image (batch 1, post-processing included) of network and backbone, GMACs
        (mean and standard deviation over images), and the kept fraction by block.
    """
    found = {name: dict(ms=[], ms_backbone=[], gmacs=[], keep=[]) for name in models}
    batches = [pseudo_collate([dataset[i]]) for i in range(min(number, len(dataset)))]
    with torch.no_grad():
        for batch in batches[:WARM_UP]:
            for model in models.values():
                model.test_step(batch)
        for batch in batches:
            for name, model in models.items():
                inputs = model.data_preprocessor(batch, False)["inputs"]
                found[name]["ms"] += milliseconds(partial(model.test_step, batch), inputs.device)
                found[name]["ms_backbone"] += milliseconds(partial(model.backbone, inputs), inputs.device)
                with Trace() as trace, count_flops() as flops:
                    model.test_step(batch)
                found[name]["gmacs"].append(flops.gmacs)
                found[name]["keep"].append(trace.passes[0].keep_ratio()[0])
    return {
        name: dict(
            ms=statistics.median(f["ms"]),
            ms_backbone=statistics.median(f["ms_backbone"]),
            gmacs=statistics.mean(f["gmacs"]),
            gmacs_std=statistics.pstdev(f["gmacs"]),
            keep_by_block=torch.stack(f["keep"]).mean(0).tolist(),
            num_images=len(batches),
        )
        for name, f in found.items()
    }


def result_row(name: str, model: nn.Module, scores: dict, measured: dict, **circumstances: object) -> dict:
    """Return a row: scores, mean kept fraction over the pruned blocks, operations, times."""
    pruned = model.backbone.reducer.pruned_blocks if model.backbone.reducer else []
    keep = [measured["keep_by_block"][block] for block in pruned]
    return row(
        model=name,
        box_AP=scores["coco/bbox_mAP"],
        box_AP50=scores["coco/bbox_mAP_50"],
        mask_AP=scores["coco/segm_mAP"],
        mask_AP50=scores["coco/segm_mAP_50"],
        keep_ratio=statistics.mean(keep) if keep else 1.0,
        pruned_blocks=pruned,
        **measured,
        parameters=sum(p.numel() for p in model.parameters()),
        **circumstances,
    )


def print_rows(rows: list[dict]) -> None:
    """Print one line per row."""
    for r in rows:
        print(
            f"{r['model']:>7}: box AP {r['box_AP']:.3f} (AP50 {r['box_AP50']:.3f}), mask AP {r['mask_AP']:.3f}, "
            f"{r['keep_ratio']:.0%} of the tokens kept in the pruned blocks, {r['gmacs']:.2f} "
            f"GMACs, {r['ms']:.0f} ms, backbone {r['ms_backbone']:.0f} ms"
        )


def compare(
    specs: list[tuple], folder: Path, number: int, mode: str | None = None, **circumstances: object
) -> tuple[list[dict], dict[str, nn.Module], Sequence]:
    """Return rows for ``specs``, a list of (name, config path, checkpoint), the models and their test data."""
    models, scores, dataset = {}, {}, None
    for name, path, checkpoint in specs:
        cfg = Config.fromfile(path)
        reducer = cfg.model.backbone.get("reducer")
        options = [f"model.backbone.reducer.mode={mode}"] if mode and reducer and reducer.type == "SViT" else []
        cfg.merge_from_dict(dict(option.split("=", 1) for option in options))
        models[name] = build_model(cfg, None if checkpoint == "random" else checkpoint)
        if checkpoint == "random":
            checkpoint = folder / f"{name}_random.pth"
            torch.save(dict(state_dict=models[name].state_dict()), checkpoint)
        scores[name] = evaluate(name, path, checkpoint, folder, options)
        with building_from_config():
            dataset = dataset or DATASETS.build(dict(cfg.test_dataloader.dataset, _scope_=cfg.default_scope))
    print("\nTiming all models on the same images, interleaved ...", flush=True)
    measured = measure(models, dataset, number)
    rows = [result_row(name, model, scores[name], measured[name], **circumstances) for name, model in models.items()]
    return rows, models, dataset


def main() -> None:
    args = parse_args()
    specs = [spec.split("=", 2) for spec in args.models]
    for spec, given in zip(specs, args.models, strict=True):
        if len(spec) != 3:
            raise ConfigError(f"{given}: write NAME=CONFIG=CHECKPOINT, or NAME=CONFIG=random")
    folder = Path(args.out).parent
    folder.mkdir(parents=True, exist_ok=True)
    rows, _, _ = compare(
        specs, folder, args.timed, args.mode, weights="random" if any(s[2] == "random" for s in specs) else "trained"
    )
    write_json(args.out, rows)
    print_rows(rows)


if __name__ == "__main__":
    run(main)
