"""The main job from end to end on embedded data: draw digit scenes, train a dense nano detector, fine-tune the pruned
one from it, evaluate and time both, and write one report.

Everything runs through the ordinary tools; the commands are printed as they run. Training that is finished is not
repeated, and training that was interrupted goes on where it stopped, as long as the settings are the same.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from demo_report import write_report
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from mmcv_custom.errors import ConfigError
from mmcv_custom.launch import build_model, run
from mmcv_custom.results import row, write_json
from mmcv_custom.runner import latest_checkpoint
from token_pruning import Trace, count_flops

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {"dense": ROOT / "configs/quickstart/digits_vit-adapter-nano.py",
           "pruned": ROOT / "configs/quickstart/digits_svit-adapter-nano.py"}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", default="work_dirs/demo", help="where everything but the data goes")
    parser.add_argument("--pictures", nargs=2, type=int, metavar=("TRAIN", "VAL"), default=(1000, 200))
    parser.add_argument("--epochs", nargs=2, type=int, metavar=("DENSE", "PRUNED"), help="default: the configs'")
    parser.add_argument("--timed", type=int, default=40, metavar="N", help="pictures to time on (default: 40)")
    return parser.parse_args()


def settle(folder, args):
    """Remember what this demo trains; refuse to go on in a folder that trained something else."""
    settings = dict(pictures=list(args.pictures), epochs=args.epochs,
                    configs={name: Config.fromfile(path).pretty_text for name, path in CONFIGS.items()})
    known = folder / "settings.json"
    if known.exists() and json.loads(known.read_text()) != settings:
        raise ConfigError(f"{folder} holds a demo with other settings or of another version: delete it, or choose "
                          "another with --work-dir")
    write_json(known, settings)


def call(*command):
    """Run one of the tools, printed as a user would type it."""
    print("\n$ " + shlex.join(["python", *(str(c).removeprefix(f"{ROOT}/") for c in command)]), flush=True)
    done = subprocess.run([sys.executable, *map(str, command)])
    if done.returncode:
        sys.exit(done.returncode)


def train(name, folder, epochs, start=None):
    """Train one of the two models through tools/train.py; returns its checkpoint."""
    options = []
    if epochs is not None:
        options = ["--cfg-options", f"train_cfg.max_epochs={epochs}", f"train_cfg.val_interval={epochs}",
                   f"param_scheduler.1.end={epochs}"]
    load = ["--load-from", start] if start else []
    call(ROOT / "tools/train.py", CONFIGS[name], "--work-dir", folder / name, "--resume", *load, *options)
    return latest_checkpoint(folder / name)


def evaluate(name, folder, checkpoint):
    """The scores of one model through tools/test.py, as its evaluator names them."""
    scores = folder / f"{name}_scores.json"
    call(ROOT / "tools/test.py", CONFIGS[name], checkpoint, "--work-dir", folder / f"{name}_test", "--scores", scores)
    return json.loads(scores.read_text())


def measure(models, dataset, number):
    """Time and count both detectors on the same pictures, in turns, so that a busy machine hits both alike.

    Returns name -> dict(ms, ms_backbone, gflops, gmacs, keep_ratio by block).
    """
    found = {name: dict(ms=[], ms_backbone=[], gflops=[], keep=[]) for name in models}
    batches = [pseudo_collate([dataset[i]]) for i in range(min(number, len(dataset)))]
    with torch.no_grad():
        for i, batch in enumerate(batches[:3] + batches):
            for name, model in models.items():
                start = time.perf_counter()
                model.test_step(batch)
                middle = time.perf_counter()
                inputs = model.data_preprocessor(batch, False)["inputs"]
                before = time.perf_counter()
                model.backbone(inputs)
                after = time.perf_counter()
                if i < 3:  # warm-up
                    continue
                found[name]["ms"].append(1e3 * (middle - start))
                found[name]["ms_backbone"].append(1e3 * (after - before))
                with Trace() as trace, count_flops() as flops:
                    model.test_step(batch)
                found[name]["gflops"].append(flops.gflops)
                found[name]["keep"].append(trace.passes[0].keep_ratio()[0])
    return {name: dict(ms=statistics.median(f["ms"]), ms_backbone=statistics.median(f["ms_backbone"]),
                       gflops=statistics.mean(f["gflops"]), gflops_std=statistics.pstdev(f["gflops"]),
                       keep_by_block=torch.stack(f["keep"]).mean(0).tolist()) for name, f in found.items()}


def result_row(name, model, scores, measured, command):
    """One row of results.json. ``keep_ratio`` is the mean over the pruned blocks; GFLOPs count a multiply-add as 2."""
    pruned = model.backbone.reducer.pruned_blocks if model.backbone.reducer else []
    keep = [measured["keep_by_block"][block] for block in pruned]
    return row(
        model=name, box_AP=scores["coco/bbox_mAP"], box_AP50=scores["coco/bbox_mAP_50"],
        mask_AP=scores["coco/segm_mAP"], mask_AP50=scores["coco/segm_mAP_50"],
        keep_ratio=statistics.mean(keep) if keep else 1.0, pruned_blocks=pruned, **measured,
        parameters=sum(p.numel() for p in model.parameters()), data="digit scenes, validation", command=command)


def main():
    args = parse_args()
    began = time.time()
    folder = Path(args.work_dir)
    settle(folder, args)
    epochs = args.epochs or (None, None)
    call(ROOT / "tools/dataset_converters/digit_scenes.py", "data/digit_scenes",
         "--train", args.pictures[0], "--val", args.pictures[1])
    checkpoints = {"dense": train("dense", folder, epochs[0])}
    checkpoints["pruned"] = train("pruned", folder, epochs[1], start=checkpoints["dense"])
    scores = {name: evaluate(name, folder, path) for name, path in checkpoints.items()}

    print("\nTiming both on the same pictures, in turns ...", flush=True)
    configs = {name: Config.fromfile(path) for name, path in CONFIGS.items()}
    models = {name: build_model(configs[name], checkpoints[name]) for name in CONFIGS}
    dataset = DATASETS.build(configs["dense"].test_dataloader.dataset)
    measured = measure(models, dataset, args.timed)
    command = "make demo" if len(sys.argv) == 1 else f"make demo ARGS='{shlex.join(sys.argv[1:])}'"
    rows = [result_row(name, models[name], scores[name], measured[name], command) for name in CONFIGS]
    write_json(folder / "results.json", rows)
    write_report(folder / "report.html", rows, models, dataset)
    for r in rows:
        print(f"{r['model']:>7}: box AP {r['box_AP']:.3f} (AP50 {r['box_AP50']:.3f}), mask AP {r['mask_AP']:.3f}, "
              f"kept {r['keep_ratio']:.0%} of the tokens in the pruned blocks, {r['gflops']:.2f} GFLOPs "
              f"(multiply-add = 2), {r['ms']:.0f} ms, backbone {r['ms_backbone']:.0f} ms")
    print(f"Done in {(time.time() - began) / 60:.1f} minutes: {folder / 'report.html'} and {folder / 'results.json'}")


if __name__ == "__main__":
    run(main)
