"""Small random models of every family of transformers that the core runs; tests that use them need transformers."""

import pytest
import torch

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; pip install -e .[hf]", exc_type=ImportError
)

SIDE, PATCH, DIM, DEPTH = 48, 8, 24, 4
SIZES = dict(
    hidden_size=DIM, num_hidden_layers=DEPTH, num_attention_heads=3, intermediate_size=48, image_size=SIDE, patch_size=8
)
# How large the weights are: as in a trained network, the attention is not flat and LayerScale does not hide a block.
STD = 0.15


def _build(kind, config, **options):
    torch.manual_seed(0)
    model = getattr(transformers, kind)(getattr(transformers, config)(**{**SIZES, **options})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=STD)
            if parameter.ndim == 1:
                parameter.add_(1)
    return model


def _dino(kind, config, **options):
    return _build(kind, config, **{"mlp_ratio": 2, "layerscale_value": 0.5, **options})


def _pair(kind, config, vision, text, **options):
    """Return a model of images and words."""
    words = dict(
        hidden_size=DIM,
        num_hidden_layers=1,
        num_attention_heads=3,
        intermediate_size=24,
        vocab_size=9,
        max_position_embeddings=8,
        projection_size=DIM,
        eos_token_id=2,
        bos_token_id=1,
        pad_token_id=0,
    )
    vision_config = getattr(transformers, vision)(**{**SIZES, **options}).to_dict()
    text_config = getattr(transformers, text)(**words).to_dict()
    return _build(kind, config, vision_config=vision_config, text_config=text_config)


YOLOS = dict(num_detection_tokens=5, image_size=[SIDE, SIDE])
BEIT = dict(use_relative_position_bias=True, layer_scale_init_value=0.5)
# Name -> how to make the model: the plain form of every family, and forms that differ in what the layers do.
TOWERS = {
    "ViT": lambda **o: _build("ViTModel", "ViTConfig", **o),
    "DeiT": lambda **o: _build("DeiTModel", "DeiTConfig", **o),
    "ViTMAE": lambda **o: _build("ViTMAEModel", "ViTMAEConfig", **{"mask_ratio": 0.0, **o}),
    "DINOv2": lambda **o: _dino("Dinov2Model", "Dinov2Config", **o),
    "DINOv2 SwiGLU": lambda **o: _dino("Dinov2Model", "Dinov2Config", use_swiglu_ffn=True, **o),
    "DINOv2 with registers": lambda **o: _dino("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", **o),
    "DINOv3 ViT": lambda **o: _dino("DINOv3ViTModel", "DINOv3ViTConfig", num_register_tokens=4, **o),
    "DINOv3 ViT gated": lambda **o: _dino("DINOv3ViTModel", "DINOv3ViTConfig", use_gated_mlp=True, **o),
    "CLIP (vision)": lambda **o: _build("CLIPVisionModel", "CLIPVisionConfig", **o),
    "SigLIP (vision)": lambda **o: _build("SiglipVisionModel", "SiglipVisionConfig", **o),
    "BEiT": lambda **o: _build("BeitModel", "BeitConfig", **{**BEIT, **o}),
    "BEiT shared": lambda **o: _build("BeitModel", "BeitConfig", use_shared_relative_position_bias=True, **o),
    "YOLOS": lambda **o: _build("YolosModel", "YolosConfig", use_mid_position_embeddings=True, **YOLOS, **o),
    "YOLOS plain": lambda **o: _build("YolosModel", "YolosConfig", use_mid_position_embeddings=False, **YOLOS, **o),
}


# Models with a head, and what they return.
HEADS = {
    "ViTForImageClassification": lambda: (_build("ViTForImageClassification", "ViTConfig", num_labels=5), "logits"),
    "ViTForMaskedImageModeling": lambda: (
        _build("ViTForMaskedImageModeling", "ViTConfig", encoder_stride=8),
        "reconstruction",
    ),
    "DeiTForImageClassification": lambda: (_build("DeiTForImageClassification", "DeiTConfig"), "logits"),
    "DeiTForImageClassificationWithTeacher": lambda: (
        _build("DeiTForImageClassificationWithTeacher", "DeiTConfig"),
        "logits",
    ),
    "Dinov2ForImageClassification": lambda: (_dino("Dinov2ForImageClassification", "Dinov2Config"), "logits"),
    "Dinov2WithRegistersForImageClassification": lambda: (
        _dino("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig"),
        "logits",
    ),
    "CLIPVisionModelWithProjection": lambda: (
        _build("CLIPVisionModelWithProjection", "CLIPVisionConfig", projection_dim=7),
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
    "BeitForImageClassification": lambda: (_build("BeitForImageClassification", "BeitConfig", **BEIT), "logits"),
    "BeitForSemanticSegmentation": lambda: (
        _build("BeitForSemanticSegmentation", "BeitConfig", **BEIT, out_indices=[1, 2, 3, 4], pool_scales=[1, 2]),
        "logits",
    ),
    "YolosForObjectDetection": lambda: (
        _build("YolosForObjectDetection", "YolosConfig", use_mid_position_embeddings=True, **YOLOS),
        "pred_boxes",
    ),
}
STAGES = dict(out_features=["stage1", "stage3", "stage4"])
BACKBONES = {
    "Dinov2Backbone": lambda: _dino("Dinov2Backbone", "Dinov2Config", **STAGES),
    "Dinov2WithRegistersBackbone": lambda: _dino("Dinov2WithRegistersBackbone", "Dinov2WithRegistersConfig", **STAGES),
    "DINOv3ViTBackbone": lambda: _dino("DINOv3ViTBackbone", "DINOv3ViTConfig", num_register_tokens=2, **STAGES),
    "BeitBackbone": lambda: _build("BeitBackbone", "BeitConfig", **BEIT, **STAGES),
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
