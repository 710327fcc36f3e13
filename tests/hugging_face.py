"""Small random models of every family of transformers that the core runs; tests that use them need transformers."""

import host_models
import pytest
import torch
from host_models import BEIT, DEPTH, DIM, DINO, HEADS, PATCH, SIDE, YOLOS
from host_models import transformers_model as build

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; pip install -e .[hf]", exc_type=ImportError
)


def _pair(kind, config, vision, text):
    """Return a model of images and words."""
    words = dict(
        hidden_size=DIM,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        intermediate_size=24,
        vocab_size=9,
        max_position_embeddings=8,
        projection_size=DIM,
        eos_token_id=2,
        bos_token_id=1,
        pad_token_id=0,
    )
    sizes = dict(hidden_size=DIM, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=2 * DIM)
    sizes.update(image_size=SIDE, patch_size=PATCH)
    vision_config = getattr(transformers, vision)(**sizes).to_dict()
    text_config = getattr(transformers, text)(**words).to_dict()
    return build(kind, config, vision_config=vision_config, text_config=text_config)


# The families, and forms that differ in what the layers do.
TOWERS = {
    **host_models.TOWERS,
    "DINOv2 SwiGLU": lambda **o: build("Dinov2Model", "Dinov2Config", use_swiglu_ffn=True, **DINO, **o),
    "DINOv3 ViT gated": lambda **o: build("DINOv3ViTModel", "DINOv3ViTConfig", use_gated_mlp=True, **DINO, **o),
    "BEiT shared": lambda **o: build("BeitModel", "BeitConfig", use_shared_relative_position_bias=True, **o),
    "YOLOS plain": lambda **o: build(
        "YolosModel", "YolosConfig", **{**YOLOS, "use_mid_position_embeddings": False}, **o
    ),
}


def _depth():
    """Return a depth estimator, whose backbone is a tower of another family."""
    torch.manual_seed(0)
    stages = dict(out_features=[f"stage{i}" for i in range(1, DEPTH + 1)], reshape_hidden_states=False)
    sizes = dict(hidden_size=DIM, num_hidden_layers=DEPTH, num_attention_heads=HEADS, image_size=SIDE, patch_size=PATCH)
    narrow = dict(reassemble_hidden_size=DIM, neck_hidden_sizes=[8] * 4, fusion_hidden_size=8, head_hidden_size=8)
    backbone = transformers.Dinov2Config(**sizes, **DINO, **stages)
    config = transformers.DepthAnythingConfig(backbone_config=backbone, patch_size=PATCH, **narrow)
    return transformers.DepthAnythingForDepthEstimation(config).eval()


# Models with a head, and what they return.
FORMS = {
    "ViTForImageClassification": lambda: (build("ViTForImageClassification", "ViTConfig", num_labels=5), "logits"),
    "ViTForMaskedImageModeling": lambda: (
        build("ViTForMaskedImageModeling", "ViTConfig", encoder_stride=8),
        "reconstruction",
    ),
    "DeiTForImageClassification": lambda: (build("DeiTForImageClassification", "DeiTConfig"), "logits"),
    "DeiTForImageClassificationWithTeacher": lambda: (
        build("DeiTForImageClassificationWithTeacher", "DeiTConfig"),
        "logits",
    ),
    "Dinov2ForImageClassification": lambda: (build("Dinov2ForImageClassification", "Dinov2Config", **DINO), "logits"),
    "Dinov2WithRegistersForImageClassification": lambda: (
        build("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", **DINO),
        "logits",
    ),
    "CLIPVisionModelWithProjection": lambda: (
        build("CLIPVisionModelWithProjection", "CLIPVisionConfig", projection_dim=7),
        "image_embeds",
    ),
    "CLIPForImageClassification": lambda: (
        _pair("CLIPForImageClassification", "CLIPConfig", "CLIPVisionConfig", "CLIPTextConfig"),
        "logits",
    ),
    "SiglipForImageClassification": lambda: (
        _pair("SiglipForImageClassification", "SiglipConfig", "SiglipVisionConfig", "SiglipTextConfig"),
        "logits",
    ),
    "BeitForImageClassification": lambda: (build("BeitForImageClassification", "BeitConfig", **BEIT), "logits"),
    "BeitForSemanticSegmentation": lambda: (
        build("BeitForSemanticSegmentation", "BeitConfig", **BEIT, out_indices=[1, 2, 3, 4], pool_scales=[1, 2]),
        "logits",
    ),
    "DepthAnythingForDepthEstimation": lambda: (_depth(), "predicted_depth"),
    "YolosForObjectDetection": lambda: (
        build("YolosForObjectDetection", "YolosConfig", **YOLOS),
        "pred_boxes",
    ),
}
STAGES = dict(out_features=["stage1", "stage3", "stage4"])
BACKBONES = {
    "Dinov2Backbone": lambda: build("Dinov2Backbone", "Dinov2Config", **DINO, **STAGES),
    "Dinov2WithRegistersBackbone": lambda: build(
        "Dinov2WithRegistersBackbone", "Dinov2WithRegistersConfig", **DINO, **STAGES
    ),
    "DINOv3ViTBackbone": lambda: build("DINOv3ViTBackbone", "DINOv3ViTConfig", num_register_tokens=2, **DINO, **STAGES),
    "BeitBackbone": lambda: build("BeitBackbone", "BeitConfig", **BEIT, **STAGES),
}
# Models of images and words.
PAIRS = {
    "CLIPModel": lambda: _pair("CLIPModel", "CLIPConfig", "CLIPVisionConfig", "CLIPTextConfig"),
    "SiglipModel": lambda: _pair("SiglipModel", "SiglipConfig", "SiglipVisionConfig", "SiglipTextConfig"),
}


def tower(name, **options):
    """Return the tower of a family, in evaluation."""
    return TOWERS[name](**options)


def images(batch=3, height=SIDE, width=SIDE):
    """Return the same random images at every call."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
