"""Evaluate a checkpoint, or a file of tools/export.py, on the test data of a config.

python tools/test.py CONFIG CHECKPOINT
python tools/test.py CONFIG model.onnx
"""

import argparse
import os
import sys

from mmengine.device import get_device

from mmcv_custom.checkpoint import find_checkpoint
from mmcv_custom.cli.launch import add_common_options, build_runner, is_main_process, load_config, run
from mmcv_custom.data.checks.datasets import leaf_datasets
from mmcv_custom.errors import ConfigError
from mmcv_custom.inference.exported import evaluate_file, is_exported
from mmcv_custom.results import write_json
from mmcv_custom.tasks import TASKS, task_of


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="weights: native, published or training checkpoint; or an exported file")
    parser.add_argument("--eval", nargs="+", metavar="METRIC", help="what to evaluate, e.g. bbox segm, mIoU, top1")
    parser.add_argument("--out", metavar="FILE.pkl", help="also write the predictions to this file")
    parser.add_argument("--scores", metavar="FILE.json", help="also write the scores to this file")
    parser.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation: average over the views of the config's tta_pipeline",
    )
    parser.add_argument("--show", action="store_true", help="show the images with their predictions in a window")
    parser.add_argument("--show-dir", metavar="DIR", help="write the images with their predictions here")
    parser.add_argument(
        "--show-score-thr",
        type=float,
        default=0.3,
        metavar="S",
        help="draw detections with at least this score (default: 0.3)",
    )
    parser.add_argument("--fuse-conv-bn", action="store_true", help="fold batch norms into convolutions first")
    parser.add_argument(
        "--channels-last", action="store_true", help="run convolutions in the channels-last memory format"
    )
    parser.add_argument("--compile", action="store_true", help="compile the backbone")
    parser.add_argument(
        "--cuda-graph", action="store_true", help="replay the backbone as a CUDA graph, one per image size"
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    add_common_options(parser)
    args = parser.parse_args()
    if args.out and not args.out.endswith((".pkl", ".pickle")):
        parser.error(f"--out {args.out}: predictions are written as .pkl, give a name with this ending")
    return args


def set_metrics(cfg, metrics):
    """Make the evaluators of ``cfg`` compute ``metrics``, where they have a choice."""
    chosen = [(e, metric) for e in evaluators(cfg) for metric in [metric_of(e)] if metric and metric.argument]
    if not chosen:
        types = ", ".join(e["type"] for e in evaluators(cfg))
        raise ConfigError(f"--eval does not apply: the config's test_evaluator ({types}) has no metric to choose")
    for evaluator, metric in chosen:
        unknown = [m for m in metrics if m not in metric.choices]
        if unknown:
            raise ConfigError(
                f"--eval {unknown[0]} is not a metric of {evaluator['type']}: choose from {', '.join(metric.choices)}"
            )
        evaluator[metric.argument] = [int(m[3:]) for m in metrics] if metric.argument == "topk" else list(metrics)


def metric_of(evaluator):
    """Return the entry of an evaluator in the table of tasks, or None."""
    known = [task.metric for task in TASKS.values()]
    same = (m for m in known if m.type == evaluator["type"].split(".")[-1] or m.argument in evaluator)
    return next(same, None)


def evaluators(cfg):
    return cfg.test_evaluator if isinstance(cfg.test_evaluator, (list, tuple)) else [cfg.test_evaluator]


def augment(cfg):
    """Make ``cfg`` test each image in the views of its ``tta_pipeline``, merged by its ``tta_model``."""
    if not cfg.get("tta_model") or not cfg.get("tta_pipeline"):
        raise ConfigError(
            "--tta needs tta_model and tta_pipeline in the config: those of segmentation have them "
            "(configs/_base_/runtimes/runtime_segmentation.py), the others do not (mmdet merges boxes but not "
            "masks)"
        )
    for dataset in leaf_datasets(cfg.test_dataloader.dataset):
        dataset["pipeline"] = with_labels(cfg.tta_pipeline, dataset.get("pipeline") or [])
    cfg.model = dict(cfg.tta_model, module=cfg.model)


def with_labels(steps, test):
    """Return the steps of a ``tta_pipeline`` with labels loaded as the pipeline ``test`` loads them.

    A step that loads annotations and has no arguments is replaced by those of ``test``, or removed if it has none.
    ``steps`` are nested as in TestTimeAug.
    """
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
    """Switch on the config's visualization hook."""
    if args.show and sys.platform.startswith("linux") and not (os.getenv("DISPLAY") or os.getenv("WAYLAND_DISPLAY")):
        raise ConfigError("--show needs a display and there is none: use --show-dir DIR")
    hook = (cfg.get("default_hooks") or {}).get("visualization")
    if not hook:
        raise ConfigError("--show and --show-dir need default_hooks.visualization in the config")
    folder = os.path.abspath(args.show_dir) if args.show_dir else None
    names = task_of(cfg).visualization
    hook.update({"show": args.show, "interval": 1, names.enable: True})
    if names.score_thr:
        hook[names.score_thr] = args.show_score_thr
    if names.folder:
        hook[names.folder] = folder
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), dict(type="DrawingNamesHook")]
    elif folder:  # the visualizer writes what this hook gives it to its backends
        cfg.visualizer.vis_backends = [dict(type="LocalVisBackend", save_dir=folder, img_save_dir="")]


def check_file_options(args):
    """Raise ConfigError if an option is of a model in PyTorch, which an exported file is not."""
    names = ("tta", "fuse_conv_bn", "channels_last", "compile", "cuda_graph", "amp")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name)]
    given += [key for key in args.cfg_options if key.split(".")[0] == "model"]
    if given:
        raise ConfigError(f"{', '.join(given)} cannot change an exported file: export the model again")


def main():
    args = parse_args()
    cfg = load_config(args.config, args)
    if cfg.get("test_dataloader") is None or cfg.get("test_evaluator") is None:
        raise ConfigError(f"config {args.config} lacks test_dataloader or test_evaluator: there is nothing to evaluate")
    cfg.load_from, cfg.resume = find_checkpoint(args.checkpoint), False
    if is_exported(cfg.load_from):
        check_file_options(args)
        evaluate_file(cfg, cfg.load_from)
    if args.eval:
        set_metrics(cfg, args.eval)
    if args.tta:
        augment(cfg)
    if args.out:
        known = cfg.get("default_scope") in {task.scope for task in TASKS.values()}
        dump = task_of(cfg).dump if known else "DumpResults"
        cfg.test_evaluator = [*evaluators(cfg), dict(type=dump, out_file_path=args.out)]
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
        write_json(args.scores, scores)


if __name__ == "__main__":
    run(main)
