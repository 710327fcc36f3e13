"""Train the model of a config."""

import argparse

from mmcv_custom.checkpoint import find_checkpoint
from mmcv_custom.cli.config_check import check_batch_size
from mmcv_custom.cli.launch import add_common_options, build_runner, load_config, run
from mmcv_custom.engine.runner import latest_checkpoint
from mmcv_custom.errors import ConfigError


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="continue a run from CHECKPOINT (default: the latest in the work dir, if there is one)",
    )
    parser.add_argument("--load-from", metavar="CHECKPOINT", help="start from these weights")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate by the ratio of the total batch to the recipe's",
    )
    add_common_options(parser)
    args = parser.parse_args()
    if args.load_from and args.resume not in (None, "auto"):
        parser.error("--load-from starts a new run and --resume CHECKPOINT continues one: give one of them")
    return args


def main():
    args = parse_args()
    cfg = load_config(args.config, args)
    if cfg.get("train_dataloader") is None:
        raise ConfigError(f"config {args.config} has no train_dataloader: there is nothing to train on")
    if args.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.setdefault("loss_scale", "dynamic")
    if args.auto_scale_lr:
        if not (cfg.get("auto_scale_lr") or {}).get("base_batch_size"):
            raise ConfigError("--auto-scale-lr needs auto_scale_lr.base_batch_size in the config: the recipe's batch")
        cfg.auto_scale_lr.enable = True
    from_config = cfg.get("load_from")
    cfg.load_from = args.load_from or from_config
    if args.resume is not None:
        found = latest_checkpoint(cfg.work_dir) if args.resume == "auto" else args.resume
        # Without a checkpoint to resume from, the run starts as it would without --resume.
        cfg.resume = found is not None
        cfg.load_from = found or cfg.load_from
    if cfg.load_from:
        hint = "the config starts from it: train that model first, or give another file with --load-from"
        hint = hint if cfg.load_from == from_config else "check --load-from and --resume"
        cfg.load_from = find_checkpoint(cfg.load_from, hint)

    runner = build_runner(cfg, splits=("train", "val"))
    advice = check_batch_size(cfg, runner.world_size)
    if advice:
        runner.logger.warning(advice)
    runner.train()


if __name__ == "__main__":
    run(main)
