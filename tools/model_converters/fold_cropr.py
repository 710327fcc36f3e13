"""Reduce a trained Cropr model to what inference needs: every router is folded into one vector.

    python tools/model_converters/fold_cropr.py CONFIG CHECKPOINT OUT.pth
    python tools/test.py CONFIG OUT.pth --cfg-options model.backbone.reducer.folded=True

The folded model is built again with these weights, and its backbone must give the same outputs.
"""

import argparse
import os

import torch
from weights_file import check_new, write_new

from mmcv_custom.cli.launch import add_common_options, build_model, load_config, run
from mmcv_custom.errors import CheckpointError, ConfigError
from token_pruning import Cropr


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config of the trained model")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument("out", metavar="OUT.pth", help="the file to write")
    add_common_options(parser)
    return parser.parse_args()


def main():
    args = parse_args()
    check_new(args.out)
    cfg = load_config(args.config, args)
    model = build_model(cfg, args.checkpoint)
    reducer = model.backbone.reducer
    if not isinstance(reducer, Cropr) or not reducer.has_aux_heads:
        raise ConfigError(f"config {args.config} has no routers to fold: its reducer must be a Cropr with folded=False")
    images = torch.randn(2, 3, *size_of(model.backbone), generator=torch.Generator().manual_seed(0))
    before, wanted = count_numbers(model), outputs(model, images)
    reducer.fold()

    cfg.model.backbone.reducer.folded = True
    again, state = build_model(cfg, None), model.state_dict()
    again.load_state_dict(state)
    for a, b in zip(wanted, outputs(again, images), strict=True):
        if not torch.allclose(a, b, rtol=1e-5, atol=1e-6):
            raise CheckpointError(
                f"nothing was written: folded, the backbone's outputs differ by up to "
                f"{(a - b).abs().max().item():.2g}; please report this"
            )
    write_new(args.out, {"state_dict": state, "meta": {"folded": os.path.basename(args.checkpoint)}})
    print(
        f"{args.out}: {count_numbers(again) / 1e6:.2f} million numbers of {before / 1e6:.2f}, outputs equal; use it "
        "with --cfg-options model.backbone.reducer.folded=True"
    )


def size_of(backbone):
    """Return height and width of the images that the position table fits."""
    if hasattr(backbone, "table_grid"):
        return [side * backbone.patch_embed.patch_size[0] for side in backbone.table_grid]
    return backbone.patch_embed.img_size


@torch.no_grad()
def outputs(model, images):
    """Return the backbone's outputs as a list."""
    out = model.backbone(images)
    return [out] if isinstance(out, torch.Tensor) else list(out)


def count_numbers(model):
    return sum(value.numel() for value in model.state_dict().values())


if __name__ == "__main__":
    run(main)
