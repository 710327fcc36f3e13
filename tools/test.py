"""Evaluate a checkpoint on the test data of a config."""

import argparse
import os
import sys

from mmengine.device import get_device

from mmcv_custom.cli.launch import add_common_options, build_runner, is_main_process, load_config, run
from mmcv_custom.data.checks.datasets import leaf_datasets
from mmcv_custom.errors import CheckpointError, ConfigError
from mmcv_custom.results import write_json

# Evaluator: the argument that says what it computes, and what it can.
METRICS = {
    "CocoMetric": ("metric", ("bbox", "segm", "proposal", "proposal_fast")),
    "IoUMetric": ("iou_metrics", ("mIoU", "mDice", "mFscore")),
    "Accuracy": ("topk", ("top1", "top2", "top3", "top5", "top10")),
}
DUMPS = {"mmdet": "DumpDetResults", "mmseg": "DumpSegResults"}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="weights: a house, published or training checkpoint")
    parser.add_argument("--eval", nargs="+", metavar="METRIC", help="what to evaluate, e.g. bbox segm, mIoU, top1")
    parser.add_argument("--out", metavar="FILE.pkl", help="also write the predictions to this file")
    parser.add_argument("--scores", metavar="FILE.json", help="also write the scores to this file")
    parser.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation: the mean over the views of the config's tta_pipeline",
    )
    parser.add_argument("--show", action="store_true", help="show the images with their predictions")
    parser.add_argument("--show-dir", metavar="DIR", help="write the images with their predictions here")
    parser.add_argument(
        "--show-score-thr",
        type=float,
        default=0.3,
        metavar="S",
        help="draw detections from this score on (default: 0.3)",
    )
    parser.add_argument("--fuse-conv-bn", action="store_true", help="fold batch norms into convolutions first")
    parser.add_argument("--channels-last", action="store_true", help="convolutions with channels last in memory")
    parser.add_argument("--compile", action="store_true", help="compile the backbone")
    parser.add_argument("--cuda-graph", action="store_true", help="replay the backbone as a CUDA graph for each size")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    add_common_options(parser)
    args = parser.parse_args()
    if args.out and not args.out.endswith((".pkl", ".pickle")):
        parser.error(f"--out {args.out}: predictions are written as .pkl, give a name that ends so")
    return args


def set_metrics(cfg, metrics):
    """Make those evaluators of ``cfg`` that have a choice compute ``metrics``."""
    kinds = [(e, "CocoMetric" if "metric" in e else e["type"].split(".")[-1]) for e in evaluators(cfg)]
    chosen = [(e, *METRICS[kind]) for e, kind in kinds if kind in METRICS]
    if not chosen:
        kinds = ", ".join(e["type"] for e in evaluators(cfg))
        raise ConfigError(f"--eval does not apply: the config's test_evaluator ({kinds}) has no metric to choose")
    for evaluator, argument, known in chosen:
        unknown = [m for m in metrics if m not in known]
        if unknown:
            raise ConfigError(
                f"--eval {unknown[0]} is not a metric of {evaluator['type']}: choose from {', '.join(known)}"
            )
        evaluator[argument] = [int(m[3:]) for m in metrics] if argument == "topk" else list(metrics)


def evaluators(cfg):
    return cfg.test_evaluator if isinstance(cfg.test_evaluator, (list, tuple)) else [cfg.test_evaluator]


def augment(cfg):
    """Have ``cfg`` test each image in the views of its ``tta_pipeline``, joined by its ``tta_model``."""
    if not cfg.get("tta_model") or not cfg.get("tta_pipeline"):
        raise ConfigError(
            "--tta needs tta_model and tta_pipeline in the config: those of segmentation have them "
            "(configs/_base_/runtimes/runtime_segmentation.py), the others do not (mmdet joins boxes, no "
            "masks)"
        )
    for dataset in leaf_datasets(cfg.test_dataloader.dataset):
        dataset["pipeline"] = with_labels(cfg.tta_pipeline, dataset.get("pipeline") or [])
    cfg.model = dict(cfg.tta_model, module=cfg.model)


def with_labels(steps, test):
    """``steps``, nested as TestTimeAug has them, with labels loaded as the pipeline ``test`` loads them: a step that
    loads labels and has no arguments becomes the one there, or goes where there is none."""
    found = []
    for step in steps:
        if isinstance(step, list):
            found += [inner] if (inner := with_labels(step, test)) else []
        elif "transforms" in step:
            found.append(dict(step, transforms=with_labels(step["transforms"], test)))
        elif "Annotations" in str(step["type"]) and len(step) == 1:
            found += [own for own in test if "Annotations" in str(own["type"])]
        else:
            found.append(step)
    return found


def draw_predictions(cfg, args):
    """Switch on the config's visualization hook, whichever toolbox it is of."""
    if args.show and sys.platform.startswith("linux") and not (os.getenv("DISPLAY") or os.getenv("WAYLAND_DISPLAY")):
        raise ConfigError("--show needs a display and there is none: use --show-dir DIR")
    hook = (cfg.get("default_hooks") or {}).get("visualization")
    if not hook:
        raise ConfigError("--show and --show-dir need default_hooks.visualization in the config (DetVisualizationHook)")
    folder = os.path.abspath(args.show_dir) if args.show_dir else None
    hook.update(show=args.show)
    if hook["type"].startswith("Det"):
        hook.update(draw=True, interval=1, test_out_dir=folder, score_thr=args.show_score_thr)
    elif hook["type"].startswith("Seg"):
        hook.update(draw=True, interval=1)
        if folder:  # mmseg's hook knows no folder: what the visualizer is given goes to its backends
            cfg.visualizer.vis_backends = [dict(type="LocalVisBackend", save_dir=folder, img_save_dir="")]
    else:
        hook.update(enable=True, interval=1, out_dir=folder)


def main():
    args = parse_args()
    cfg = load_config(args.config, args)
    if cfg.get("test_dataloader") is None or cfg.get("test_evaluator") is None:
        raise ConfigError(f"config {args.config} lacks test_dataloader or test_evaluator: there is nothing to test on")
    if "://" not in args.checkpoint and not os.path.isfile(os.path.expanduser(args.checkpoint)):
        raise CheckpointError(f"checkpoint {args.checkpoint} does not exist: check the path")
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.eval:
        set_metrics(cfg, args.eval)
    if args.tta:
        augment(cfg)
    if args.out:
        kind = DUMPS.get(cfg.get("default_scope"), "DumpResults")
        cfg.test_evaluator = [*evaluators(cfg), dict(type=kind, out_file_path=args.out)]
    if args.show or args.show_dir:
        draw_predictions(cfg, args)
    if args.amp and get_device() == "cpu":
        print("No GPU: mixed precision is off, testing runs in float32.", file=sys.stderr)
    elif args.amp:
        cfg.test_cfg.fp16 = True
    chosen = [name for name in ("fuse_conv_bn", "channels_last", "compile", "cuda_graph") if getattr(args, name)]
    if chosen:
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), dict(type="AccelerationHook", steps=chosen)]
    scores = build_runner(cfg, splits=("test",)).test()
    if args.scores and is_main_process():
        # mmseg's are numpy's, which JSON does not know.
        write_json(args.scores, {k: v.item() if hasattr(v, "item") else v for k, v in scores.items()})


if __name__ == "__main__":
    run(main)
