"""Convert weights between this project's names and those of the published ViT-Adapter, SViT and Cropr.

    python tools/model_converters/to_published.py SRC DST.pth --to vit-adapter   # dense; a reducer is left out
    python tools/model_converters/to_published.py SRC DST.pth --to svit          # dense or pruned
    python tools/model_converters/to_published.py SRC DST.pth --to cropr         # a classifier or a linear segmentor
    python tools/model_converters/to_published.py SRC DST.pth --to native        # from any published schema

SRC is a .pth or .safetensors file in any schema that this project reads. No file needs converting for this project:
names are converted as they load (`init_cfg`, `--load-from`). Then also `fc_norm` and `head` of a Cropr segmentor, which
stay as they are with `--to native`, get the names of the model.
"""

import argparse

from weights_file import check_new, class_meta, read_weights, renamed, say_left_out, write_new

from mmcv_custom.checkpoint import key_maps
from mmcv_custom.cli.launch import run

SCHEMAS = {
    "vit-adapter": key_maps.to_published_dense,
    "svit": key_maps.to_published_selective,
    "cropr": key_maps.to_published_cropr,
    "native": key_maps.from_published,
}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", metavar="SRC", help="the file to read (.pth, .safetensors)")
    parser.add_argument("dst", metavar="DST", help="the file to write (.pth)")
    parser.add_argument("--to", choices=SCHEMAS, required=True, help="the schema to write")
    return parser.parse_args()


def main():
    args = parse_args()
    check_new(args.dst)
    given, others = read_weights(args.src)
    state = renamed(SCHEMAS[args.to], given, args.src)
    write_new(args.dst, dict(state_dict=state, meta=class_meta(others)))
    print(f"{args.dst}: {len(state)} tensors with the names of {args.to}")
    # Cropr's names change by more than their prefix, and nothing of it is left out.
    say_left_out(given, given if args.to == "cropr" else key_maps.from_published(state), others)


if __name__ == "__main__":
    run(main)
