"""Convert a ViT published by iBOT, DINO, timm or DeiT for mmsegmentation's ViT, or for timm and this project.

SRC may be a state dict, hold one under `state_dict` or `model`, or hold a `teacher` and a `student`; names may begin
with `module.` and `backbone.`. Heads are left out.

    python tools/model_converters/ibot.py SRC DST                  # mmsegmentation's names, for any of its configs
    python tools/model_converters/ibot.py SRC DST --to timm        # timm's, which are this project's
    python tools/model_converters/ibot.py SRC DST --network student

No file needs converting for this project: names are converted as they load (`init_cfg`, `--load-from`).
"""

import argparse

from weights_file import check_new, read_weights, renamed, say_left_out, write_new

from mmcv_custom import CheckpointError
from mmcv_custom.checkpoint import key_maps
from mmcv_custom.cli.launch import run


def parse_args():
    parser = argparse.ArgumentParser(description="Convert a published ViT to mmsegmentation's names or timm's.")
    parser.add_argument("src", metavar="SRC", help="the published file")
    parser.add_argument("dst", metavar="DST", help="the file to write (.pth)")
    parser.add_argument("--to", choices=["mmseg", "timm"], default="mmseg", help="whose names (default: mmseg)")
    parser.add_argument(
        "--network", choices=["teacher", "student"], help="which of the two (default: the teacher, where there is one)"
    )
    return parser.parse_args()


def main():
    args = parse_args()
    check_new(args.dst)
    given, others = read_weights(args.src, args.network)
    state, _ = key_maps.align_prefix(given, ["pos_embed"])
    state = {name: value for name, value in state.items() if not key_maps.is_training_part(name)}
    if "blocks.0.attn.qkv.weight" not in state:
        raise CheckpointError(f"{args.src} holds no plain vision transformer: no blocks.0.attn.qkv.weight is in it")
    write_new(args.dst, renamed(key_maps.to_mmseg, state, args.src) if args.to == "mmseg" else state)
    print(f"{args.dst}: {len(state)} tensors")
    say_left_out(given, state, others)


if __name__ == "__main__":
    run(main)
