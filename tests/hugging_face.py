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


def _tower_config(config, **options):
    return getattr(transformers, config)(**{**SIZES, **options}).to_dict()


def _two_towers(kind, config, vision, text):
    torch.manual_seed(0)
    words = dict(
        hidden_size=DIM, num_hidden_layers=1, num_attention_heads=3, intermediate_size=24, vocab_size=9,
        max_position_embeddings=8, projection_size=DIM, eos_token_id=2, bos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    both = dict(vision_config=_tower_config(vision), text_config=getattr(transformers, text)(**words).to_dict())
    return getattr(transformers, kind)(getattr(transformers, config)(**both)).eval()


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
    "YOLOS": lambda **o: _build("YolosModel", "YolosConfig", **{**YOLOS, **o}),
    "YOLOS plain": lambda **o: _build("YolosModel", "YolosConfig", **{**YOLOS, "use_mid_position_embeddings": False, **o}),
}
YOLOS = dict(num_detection_tokens=5, image_size=[SIDE, SIDE], use_mid_position_embeddings=True)


def tower(name, **options):
    """Return the tower of a family, in evaluation."""
    return TOWERS[name](**options)


def images(batch=3, height=SIDE, width=SIDE):
    """Return the same random images at every call."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
