"""Measure the overhead of packed execution and the time that packed training saves, for one backbone.

    python tools/benchmarks/execution.py --json rows.json

Three rows. "selection": the fraction of a pruned backbone's time that goes into selecting (selectors and ranking),
gathering and restoring tokens. "unequal images": one block on a batch of eight images that keep 0.1 to 0.9 of their
tokens, against the same images one by one; and the fraction of its operations that are on kept tokens. "training":
forward and backward in packed mode, against exact mode and the dense backbone with the same weights (untrained
selectors keep about half of the tokens).
"""

import argparse
import copy
import statistics
from contextlib import ExitStack
from functools import partial
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mmcv_custom.benchmark.timing import Clock, compare, quartiles
from mmcv_custom.cli.launch import read_config, run
from mmcv_custom.engine.acceleration import accelerate
from mmcv_custom.errors import ConfigError, building_from_config
from mmcv_custom.results import row, write_json
from token_pruning import TokenSet, collect_losses, count_flops, run_block
from token_pruning.analysis.flops import block_flops

NUMBERS = ("share_of_selection", "kept_flops", "speedup_vs_singles", "speedup_vs_exact", "speedup_vs_dense")
CASES = ["selection", "unequal images", "training"]
RATIOS = [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/mask_rcnn/svit-adapter-s-0.33x-ftune.py")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--shape", type=int, nargs=2, default=(800, 1344), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=7, help="repeats of each measurement (default: 7)")
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE")
    args = parser.parse_args()
    if args.rounds < 1:
        raise ConfigError("--rounds must be at least 1")
    return args


@torch.no_grad()
def selection(cfg: Config, shape: tuple[int, int], rounds: int) -> dict:
    """Return the fraction of time in operations that a dense backbone does not have."""
    model = torch.nn.Module()
    model.backbone, model.neck = build(cfg, mode="ratio").eval(), torch.nn.Identity()
    accelerate(model, ["fuse_conv_bn"])
    backbone, image = model.backbone, torch.randn(1, 3, *shape)
    clock = Clock(torch.device("cpu"))
    parts = [(backbone.reducer, "before_block"), (TokenSet, "select"), (TokenSet, "restore"), (TokenSet, "with_dense")]
    with ExitStack() as stack:
        for target, name in parts:
            stack.enter_context(patch.object(target, name, clock.watch(getattr(target, name))))
        shares, totals = clock.shares(lambda repeat: backbone(image), rounds, warmup=1)
    return dict(
        ms=statistics.median(totals),
        share_of_selection=statistics.median(shares),
        share_of_selection_quartiles=quartiles(shares),
        rounds=rounds,
    )


@torch.no_grad()
def unequal_images(cfg: Config, shape: tuple[int, int], rounds: int) -> dict:
    """Compare time and operations of a packed batch with those of its images one by one."""
    backbone = build(cfg).eval()
    block, dim, grid = backbone.blocks[3], backbone.embed_dim, tuple(side // 16 for side in shape)
    torch.manual_seed(0)
    maps = torch.randn(len(RATIOS), grid[0] * grid[1], dim)
    keep = torch.rand(maps.shape[:2]) < torch.tensor(RATIOS)[:, None]
    batch = TokenSet.full(maps, grid).select(keep.flatten())
    singles = [TokenSet.full(one[None], grid).select(kept) for one, kept in zip(maps, keep, strict=True)]
    with count_flops() as flops:
        run_block(block, batch)
    found = compare(
        dict(batch=lambda: run_block(block, batch), singles=lambda: [run_block(block, one) for one in singles]),
        torch.device("cpu"),
        rounds,
    )
    return dict(kept=RATIOS, kept_flops=sum(block_flops(n, dim) for n in batch.counts) / flops.total, **found)


def training(cfg: Config, shape: tuple[int, int], rounds: int) -> dict:
    """Time forward and backward of packed, exact and dense training on the same weights and image."""
    models = dict(packed=build(cfg, training="packed"), exact=build(cfg, training="exact"), dense=build(cfg, None))
    image = torch.randn(1, 3, *shape)

    def step(model):
        torch.manual_seed(0)
        with collect_losses() as losses:
            loss = sum(m.square().mean() for m in model(image))
        (loss + losses.get("loss_ratio", 0)).backward()
        model.zero_grad()

    for model in models.values():
        model.train().load_state_dict(models["packed"].state_dict(), strict=False)
    return compare({name: partial(step, model) for name, model in models.items()}, torch.device("cpu"), rounds)


def build(cfg: Config, *dense: None, **options: str) -> torch.nn.Module:
    """Build the config's backbone; a positional ``None`` makes it dense, options go to its reducer."""
    backbone = copy.deepcopy(cfg.model.backbone)
    backbone.reducer = None if dense else dict(backbone.reducer, **options)
    with building_from_config():
        return MODELS.build(dict(backbone, _scope_=cfg.default_scope))


def main() -> None:
    args = parse_args()
    cfg = read_config(args.config)
    measure = dict(zip(CASES, (selection, unequal_images, training), strict=True))
    rows = [
        row(
            case=case,
            config=args.config,
            weights="random",
            shape=list(args.shape),
            device="cpu",
            **measure[case](cfg, args.shape, args.rounds),
        )
        for case in args.cases
    ]
    for found in rows:
        print(
            f"{found['case']}: {found['ms']:.0f} ms; "
            + ", ".join(f"{name} {found[name]:.3f}" for name in NUMBERS if name in found)
        )
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    run(main)
