"""Export a segmentor of this project to mmsegmentation's names, to run it in stock mmsegmentation.

The weights of a plain ViT get the names of mmsegmentation's `VisionTransformer`, and the arguments that it needs are
printed. Heads keep their names: `FCNHead` is mmsegmentation's own. A reducer is left out; the dense model remains. A
backbone alone, in any schema that this project reads, can be exported too.

    python tools/model_converters/to_mmseg.py work_dirs/vit-nano_linear_camvid-352/epoch_60.pth exported.pth
"""

import argparse

from weights_file import check_new, class_meta, read_weights, renamed, say_left_out, write_new

from mmcv_custom.checkpoint import key_maps
from mmcv_custom.cli.launch import run


def parse_args():
    parser = argparse.ArgumentParser(description="Export a segmentor of this project to mmsegmentation's names.")
    parser.add_argument("src", metavar="SRC", help="a checkpoint of this project")
    parser.add_argument("dst", metavar="DST", help="the file to write (.pth)")
    return parser.parse_args()


def main():
    args = parse_args()
    check_new(args.dst)
    given, others = read_weights(args.src)
    state = renamed(key_maps.to_mmseg, given, args.src)
    write_new(args.dst, dict(state_dict=state, meta=class_meta(others)))
    own = [name.removeprefix("backbone.") for name in state]
    print(
        f"{args.dst}: {len(state)} tensors, for VisionTransformer(patch_bias=True, "
        f"with_cls_token={'cls_token' in own}, final_norm={'ln1.weight' in own}, norm_cfg=dict(type='LN', eps=1e-6)) "
        "(eps: the config's norm_eps, if it has one)"
    )
    say_left_out(given, key_maps.from_published(state), others)


if __name__ == "__main__":
    run(main)
