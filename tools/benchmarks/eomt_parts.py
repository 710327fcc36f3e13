"""Time the parts of EoMT apart: encoder, upscaling of the map, mask product; configs are interleaved.

    python tools/benchmarks/eomt_parts.py configs/eomt/vit-s_eomt_coco-panoptic-640.py \\
        configs/eomt/vit-s-tome_eomt_coco-panoptic-640.py --size 640 1280 --json rows.json

The encoder is everything up to the normalized queries and map, with the reducer and the restoring of the map; the rest
of the head is two small linear networks on the queries. Weights are random, so masks are switched off, as in a trained
model. A row has the milliseconds and the GMACs (a multiply-add is 1) of each part.
"""

import argparse
from functools import partial

import torch
from mmengine.registry import MODELS

import mmdet_custom  # noqa: F401 - registers
from mmcv_custom.benchmark.timing import compare
from mmcv_custom.cli.launch import read_config, run
from mmcv_custom.errors import ConfigError, building_from_config
from mmcv_custom.models.eomt_head import EoMTHead
from mmcv_custom.results import row, write_json
from token_pruning import count_flops

PARTS = ("encoder", "upscaling", "mask_product")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help="configs of EoMT, measured in turns")
    parser.add_argument("--size", type=int, nargs="+", default=[640], help="sides of images (default: 640)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved runs of each part (default: 9)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE")
    args = parser.parse_args()
    if min(args.rounds, args.batch, *args.size) < 1:
        raise ConfigError("--rounds, --batch and --size must be at least 1")
    return args


def build(config: str, size: int) -> tuple[torch.nn.Module, EoMTHead]:
    """Return the encoder and the head of a config, for images of ``size``.

    Raises:
        ConfigError: it is no config of EoMT.
    """
    cfg = read_config(config)
    backbone = cfg.model.backbone
    if backbone.type != "EoMTEncoder":
        raise ConfigError(f"config {config} has a {backbone.type} for its backbone: give configs of EoMT")
    head = cfg.model.get("panoptic_head") or cfg.model.decode_head
    classes = head.get("num_classes") or head.num_things_classes + head.num_stuff_classes
    with building_from_config():
        encoder = MODELS.build(dict(backbone, img_size=size, init_cfg=None, _scope_=cfg.default_scope))
    return encoder.eval(), EoMTHead(encoder.embed_dim, classes, encoder.patch_embed.patch_size[0]).eval()


@torch.no_grad()
def parts(config: str, size: int, args: argparse.Namespace) -> dict:
    """Return the function of each part, without arguments."""
    encoder, head = (part.to(args.device) for part in build(config, size))
    image = torch.randn(args.batch, 3, size, size, device=args.device)
    queries, features = encoder(image)
    embeddings, upscaled = head.mask_head(queries), head.upscale(features)
    calls = (partial(encoder, image), partial(head.upscale, features), partial(head.mask_product, embeddings, upscaled))
    return dict(zip(PARTS, calls, strict=True))


@torch.no_grad()
def measure(size: int, args: argparse.Namespace) -> list[dict]:
    """Return a row for each config."""
    of_config = {config: parts(config, size, args) for config in args.configs}
    rows = [
        row(
            case=f"parts of EoMT, {size}",
            config=config,
            weights="random",
            batch=args.batch,
            shape=[size, size],
            device=args.device,
            rounds=args.rounds,
        )
        for config in of_config
    ]
    for part in PARTS:
        # Numbers for names: a config may be given twice.
        calls = {str(i): calls[part] for i, calls in enumerate(of_config.values())}
        found = compare(calls, torch.device(args.device), args.rounds, times=5)
        for i, (one, call) in enumerate(zip(rows, calls.values(), strict=True)):
            with count_flops() as flops:
                call()
            one[f"ms_{part}"] = found[f"ms_{i}"] if i else found["ms"]
            one[f"gmacs_{part}"] = flops.gmacs / args.batch
    return rows


def main() -> None:
    args = parse_args()
    rows = []
    for size in args.size:
        for one in measure(size, args):
            rows.append(one)
            said = ", ".join(f"{part} {one[f'ms_{part}']:.1f} ms, {one[f'gmacs_{part}']:.2f} GMACs" for part in PARTS)
            print(f"{one['config']} at {size}: {said}", flush=True)
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    run(main)
