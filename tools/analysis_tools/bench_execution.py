"""What packed execution costs besides the blocks, at size S on one machine:

    python tools/analysis_tools/bench_execution.py --json rows.json

Two rows. "selection": the share of selecting (selectors and ranking), gathering and restoring in the time of a pruned
backbone. "unequal pictures": one block on a batch of eight pictures that keep 0.1 to 0.9 of their tokens, against the
same pictures one by one; its FLOPs on kept tokens over all that it executes.
"""

import argparse
import statistics
import time
from contextlib import ExitStack
from functools import partial
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mmcv_custom.acceleration import accelerate
from mmcv_custom.errors import ConfigError
from mmcv_custom.launch import run
from ops.bench import in_turns
from ops.results import row, write_json
from token_pruning import TokenSet, count_flops, run_block
from token_pruning.flops import block_flops

RATIOS = [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/mask_rcnn/svit-adapter-s-0.33x-ftune.py")
    parser.add_argument("--shape", type=int, nargs=2, default=(800, 1344), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=7, help="of each measurement (at least 2; default: 7)")
    parser.add_argument("--json", metavar="FILE", help="write the rows there")
    args = parser.parse_args()
    if args.rounds < 2:
        raise ConfigError("--rounds must be at least 2")
    return args


@torch.no_grad()
def selection(backbone, image, rounds):
    """The share of everything that a dense backbone would not do."""
    spent, depth = 0.0, 0

    def timed(original, *args, **kwargs):
        nonlocal spent, depth
        depth += 1  # restore is called within select: counted once
        start = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            depth -= 1
            if not depth:
                spent += time.perf_counter() - start

    parts = [(backbone.reducer, "before_block"), (TokenSet, "select"), (TokenSet, "restore"), (TokenSet, "refresh")]
    shares, totals = [], []
    for i in range(-1, rounds):
        spent = 0.0
        with ExitStack() as stack:
            for owner, name in parts:
                original = getattr(owner, name)
                if owner is TokenSet:
                    stack.enter_context(patch.object(owner, name, lambda *a, f=original, **k: timed(f, *a, **k)))
                else:
                    stack.enter_context(patch.object(owner, name, partial(timed, original)))
            start = time.perf_counter()
            backbone(image)
            total = time.perf_counter() - start
        if i >= 0:
            shares.append(spent / total)
            totals.append(1e3 * total)
    low, middle, high = statistics.quantiles(shares, n=4)
    return dict(case="selection", ms=statistics.median(totals), share_of_selection=middle,
                share_of_selection_quartiles=[low, high], rounds=rounds)


@torch.no_grad()
def unequal_pictures(block, dim, grid, rounds):
    """Time and operations of a packed batch against its pictures one by one."""
    torch.manual_seed(0)
    maps = torch.randn(len(RATIOS), grid[0] * grid[1], dim)
    keep = torch.rand(maps.shape[:2]) < torch.tensor(RATIOS)[:, None]
    batch = TokenSet.full(maps, grid).select(keep.flatten())
    singles = [TokenSet.full(one[None], grid).select(kept) for one, kept in zip(maps, keep, strict=True)]
    with count_flops() as flops:
        run_block(block, batch)
    found = in_turns(dict(batch=lambda: run_block(block, batch),
                          singles=lambda: [run_block(block, one) for one in singles]), "cpu", rounds)
    return dict(case="unequal pictures", kept=RATIOS, kept_flops=sum(block_flops(n, dim) for n in batch.counts)
                / flops.total, **found)


def main():
    args = parse_args()
    cfg = Config.fromfile(args.config)
    cfg.model.backbone.reducer.mode = "ratio"
    model = torch.nn.Module()
    model.backbone = MODELS.build(dict(cfg.model.backbone, _scope_=cfg.default_scope)).eval()
    accelerate(model, ["fuse_conv_bn", "channels_last"])
    grid = tuple(side // 16 for side in args.shape)
    rows = [selection(model.backbone, torch.randn(1, 3, *args.shape), args.rounds),
            unequal_pictures(model.backbone.blocks[3], model.backbone.embed_dim, grid, args.rounds)]
    rows = [row(**found, config=args.config, shape=list(args.shape), device="cpu") for found in rows]
    print(f"selecting, gathering and restoring: {rows[0]['share_of_selection']:.1%} of the backbone's time")
    print(f"a batch of pictures that keep {RATIOS}: {rows[1]['speedup_vs_singles']:.2f} times as fast as one by one, "
          f"{rows[1]['kept_flops']:.1%} of its operations on kept tokens")
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    run(main)
