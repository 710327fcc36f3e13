"""Time a whole backbone with compiled deformable attention against two other implementations, interleaved.

The others are our plain PyTorch path (embedding_bag) and grid_sample, which most projects use on CPU.

    python tools/benchmarks/backbone.py configs/mask_rcnn/vit-adapter-s-3x.py --json rows.json
"""

import argparse
from contextlib import nullcontext
from functools import partial
from unittest.mock import patch

import torch
from mmengine.registry import MODELS

from mmcv_custom.benchmark.timing import compare
from mmcv_custom.cli.launch import read_config, run
from mmcv_custom.errors import ConfigError, building_from_config
from mmcv_custom.results import row, write_json
from token_pruning_ops import baselines, library, module, plain, reference

PATHS = dict(
    compiled=nullcontext,
    embedding_bag=plain,
    grid_sample=lambda: patch.object(
        module, "deformable_attention", partial(baselines.from_raw, reference.by_grid_sample)
    ),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", metavar="CONFIG")
    parser.add_argument("--shape", type=int, nargs=2, default=(800, 1344), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved runs of each path (default: 9)")
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE")
    return parser.parse_args()


@torch.no_grad()
def measure(config: str, args: argparse.Namespace) -> dict:
    """Return a row with the fields of ``compare``."""
    cfg = read_config(config)
    with building_from_config():
        backbone = MODELS.build(dict(cfg.model.backbone, _scope_=cfg.default_scope)).eval().to(args.device)
    image = torch.randn(args.batch, 3, *args.shape, device=args.device)

    def forward(path):
        with path():
            backbone(image)

    runs = {name: partial(forward, path) for name, path in PATHS.items()}
    return row(
        case=f"backbone of {config}",
        weights="random",
        dtype="float32",
        **{"pass": "forward"},
        batch=args.batch,
        shape=list(args.shape),
        device=args.device,
        **compare(runs, torch.device(args.device), args.rounds, times=5),
    )


def main() -> None:
    args = parse_args()
    if args.rounds < 1:
        raise ConfigError("--rounds must be at least 1")
    device = torch.device(args.device).type
    if device in library.MISSING:
        raise ConfigError(f"there is no compiled library for {device}: {library.MISSING[device]}")
    rows = []
    for config in args.configs:
        rows.append(measure(config, args))
        print(
            f"{config}: {rows[-1]['ms']:.0f} ms; "
            + ", ".join(f"{rows[-1][f'speedup_vs_{name}']:.2f}x {name}" for name in list(PATHS)[1:]),
            flush=True,
        )
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    run(main)
