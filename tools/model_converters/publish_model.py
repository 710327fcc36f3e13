"""Reduce a training checkpoint to its weights, in a file that any reader takes without trust.

    python tools/model_converters/publish_model.py work_dirs/RUN/epoch_6.pth model.pth
    python tools/model_converters/publish_model.py work_dirs/RUN/epoch_6.pth model.safetensors

A training checkpoint also holds what `--resume` needs: the optimizer's state and the logged scalars, which are objects
that `torch.load(weights_only=True)` refuses. The written .pth holds tensors, numbers and texts only: `state_dict`, and
in `meta` the names of the classes, for mmdetection, mmsegmentation and mmpretrain. A .safetensors file holds the
tensors. Names are those of this project.
"""

import argparse
import json
from collections import OrderedDict

import safetensors.torch
import torch
from weights_file import check_new, class_meta, read_weights, say_left_out, write_new

from mmcv_custom.cli.launch import run
from mmcv_custom.files import write_file


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", metavar="SRC", help="a checkpoint")
    parser.add_argument("dst", metavar="DST", help="the file to write (.pth, .safetensors)")
    parser.add_argument(
        "--averaged-weights",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="of raw and averaged (EMA) weights in one file, take the averaged ones (default) or the raw ones",
    )
    return parser.parse_args()


def main():
    args = parse_args()
    check_new(args.dst, (".pth", ".pt", ".safetensors"))
    given, others = read_weights(args.src, averaged=args.averaged_weights)
    # Of their own memory: a part of a larger tensor would be saved with all of it.
    state = OrderedDict((name, value.clone(memory_format=torch.contiguous_format)) for name, value in given.items())
    state._metadata = getattr(given, "_metadata", None)
    meta = json.loads(json.dumps(class_meta(others), default=lambda array: array.tolist()))
    if args.dst.endswith(".safetensors"):
        write_file(args.dst, safetensors.torch.save(state, metadata=dict(format="pt")))
    else:
        write_new(args.dst, dict(state_dict=state, meta=meta))
    print(f"{args.dst}: {len(state)} tensors")
    say_left_out(given, state, others)


if __name__ == "__main__":
    run(main)
