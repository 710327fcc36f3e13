"""Add the weights of DINOv3 to a released EoMT file, which holds the differences to them.

The files of EoMT with DINOv3 contain the encoder's differences to the gated weights, and the other parameters as they
are. The sum is written with this project's names and loads in `configs/eomt/` (`--load-from`, `tools/test.py`).

    python tools/model_converters/eomt_dinov3.py dinov3_vitl16.safetensors eomt_dinov3.bin eomt_dinov3_l.pth
"""

import argparse

from weights_file import check_new, read_weights, write_new

from mmcv_custom import CheckpointError, read_checkpoint
from mmcv_custom.checkpoint import eomt
from mmcv_custom.cli.launch import run


def parse_args():
    parser = argparse.ArgumentParser(description="Add the weights of DINOv3 to a released EoMT file.")
    parser.add_argument("dinov3", metavar="DINOV3", help="weights of DINOv3 (transformers' or timm's names)")
    parser.add_argument("deltas", metavar="FILE", help="the released file of EoMT with DINOv3")
    parser.add_argument("dst", metavar="DST", help="the file to write (.pth)")
    parser.add_argument(
        "--head",
        choices=("panoptic_head", "decode_head"),
        default="panoptic_head",
        help="decode_head: a semantic model",
    )
    return parser.parse_args()


def main():
    args = parse_args()
    check_new(args.dst)
    given = read_checkpoint(args.deltas)
    given = given.get("state_dict", given)
    if eomt.describe(given) != eomt.DELTAS:
        raise CheckpointError(f"{args.deltas} is no released EoMT file with DINOv3: there is nothing to add")
    base = eomt.vit(read_weights(args.dinov3)[0])
    state = add(eomt.native(given, [f"{args.head}.network.class_head.weight"]), eomt.with_ls(base), args)
    write_new(args.dst, dict(state_dict=state))
    print(f"{args.dst}: {len(state)} tensors, {len(base)} of them with the weights of {args.dinov3}")


def add(state, base, args):
    """Return ``state`` with the encoder's weights of ``base`` added.

    Raises:
        CheckpointError: ``base`` lacks a weight, or has one of another shape.
    """
    out = {}
    for name, value in state.items():
        own = name.removeprefix("backbone.")
        if name == own or own in ("query.weight", "attn_mask_probs"):
            out[name] = value
            continue
        if own not in base or base[own].shape != value.shape:
            found = f"has it as {list(base[own].shape)}" if own in base else "lacks it"
            raise CheckpointError(
                f"{args.deltas} has {own} as {list(value.shape)} and {args.dinov3} {found}: give the weights of the "
                "DINOv3 that the file was trained from"
            )
        out[name] = value + base[own].to(value.dtype)
    return out


if __name__ == "__main__":
    run(main)
