"""Small random models of every family of vision transformers: for the table of hosts, and for tests.

The names are the rows of the table; a factory takes further settings of the library. A model of an unsupported family
is made without memory for its weights.
"""

import timm
import torch

SIDE, PATCH, DIM, DEPTH, HEADS = 48, 8, 24, 4, 3
WINDOW = 4  # side of the windows of models that attend in them, in tokens
# Of weights in models of transformers: as in a trained network, attention is not flat and no branch is negligible.
STD = 0.15


def timm_model(name, patch=PATCH, **options):
    """Return a small model under a name of timm, in evaluation."""
    torch.manual_seed(0)
    sizes = dict(img_size=6 * patch, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, num_classes=5)
    return timm.create_model(name, **{**sizes, **options}).eval()


def _timm(name, patch=16, **settings):
    return lambda **options: timm_model(name, patch, **{**settings, **options})


def _unsupported(name):
    def build():
        with torch.device("meta"):
            return timm.create_model(name)

    return build


TIMM = {
    "ViT, AugReg, DeiT (`deit_small_patch16_224`)": _timm("deit_small_patch16_224"),
    "DeiT, distilled (`deit_small_distilled_patch16_224`)": _timm("deit_small_distilled_patch16_224"),
    "DeiT-III (`deit3_small_patch16_224`)": _timm("deit3_small_patch16_224"),
    "MAE (`vit_base_patch16_224`, mean of the patches)": _timm("vit_base_patch16_224", global_pool="avg"),
    "DINOv2 (`vit_small_patch14_dinov2`)": _timm("vit_small_patch14_dinov2", 14),
    "DINOv2 with registers (`vit_small_patch14_reg4_dinov2`)": _timm("vit_small_patch14_reg4_dinov2", 14),
    "CLIP (`vit_base_patch16_clip_224`)": _timm("vit_base_patch16_clip_224"),
    "SigLIP (`vit_base_patch16_siglip_224`)": _timm("vit_base_patch16_siglip_224"),
    "EVA-02 (`eva02_small_patch14_224`)": _timm("eva02_small_patch14_224", 14),
    "DINOv3 (`vit_small_patch16_dinov3`)": _timm("vit_small_patch16_dinov3", embed_dim=16, num_heads=2),
    "BEiT (`beit_base_patch16_224`)": _unsupported("beit_base_patch16_224"),
    "SAM (`samvit_base_patch16`)": _timm("samvit_base_patch16", window_size=WINDOW, global_attn_indexes=[1, 3]),
    "Swin (`swin_tiny_patch4_window7_224`)": _unsupported("swin_tiny_patch4_window7_224"),
}


def transformers_model(kind, config, **options):
    """Return a small model of ``transformers``: the names of its class and of its config's, in evaluation."""
    import transformers

    torch.manual_seed(0)
    sizes = dict(hidden_size=DIM, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=2 * DIM)
    sizes.update(image_size=SIDE, patch_size=PATCH)
    model = getattr(transformers, kind)(getattr(transformers, config)(**{**sizes, **options})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=STD)
            if parameter.ndim == 1:
                parameter.add_(1)
    return model


def _tower(kind, config, **settings):
    return lambda **options: transformers_model(kind, config, **{**settings, **options})


def _no_tower(kind, config, **settings):
    def build():
        import transformers

        with torch.device("meta"):
            return getattr(transformers, kind)(getattr(transformers, config)(**settings))

    return build


def _eomt(kind, config, **settings):
    def build(probability=0.0, **options):
        model = transformers_model(kind, config, **{**settings, **options})
        model.attn_mask_probs.fill_(probability)  # a released model has 0: attention without masks
        norm = model.upscale_block.block[-1].layernorm2d  # so that mask logits have both signs
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.zeros_(norm.bias)
        return model

    return build


DINO = dict(mlp_ratio=2, layerscale_value=0.5)
BEIT = dict(use_relative_position_bias=True, layer_scale_init_value=0.5)
YOLOS = dict(num_detection_tokens=5, image_size=[SIDE, SIDE], use_mid_position_embeddings=True)
EOMT = dict(num_queries=5, num_blocks=2, num_upscale_blocks=1, num_register_tokens=2, **DINO)
# The plain form of every family of token_pruning.hf, under its title there; those that attend in windows apart.
TOWERS = {
    "ViT": _tower("ViTModel", "ViTConfig"),
    "DeiT": _tower("DeiTModel", "DeiTConfig"),
    "ViTMAE": _tower("ViTMAEModel", "ViTMAEConfig", mask_ratio=0.0),
    "DINOv2": _tower("Dinov2Model", "Dinov2Config", **DINO),
    "DINOv2 with registers": _tower("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", **DINO),
    "DINOv3 ViT": _tower("DINOv3ViTModel", "DINOv3ViTConfig", num_register_tokens=4, **DINO),
    "CLIP (vision)": _tower("CLIPVisionModel", "CLIPVisionConfig"),
    "SigLIP (vision)": _tower("SiglipVisionModel", "SiglipVisionConfig"),
    "BEiT": _tower("BeitModel", "BeitConfig", **BEIT),
    "YOLOS": _tower("YolosModel", "YolosConfig", **YOLOS),
    "EoMT": _eomt("EomtForUniversalSegmentation", "EomtConfig", **EOMT),
    "EoMT DINOv3": _eomt("EomtDinov3ForUniversalSegmentation", "EomtDinov3Config", **EOMT),
}
SAM = dict(window_size=WINDOW, global_attn_indexes=[1, 3])
VITDET = dict(window_size=WINDOW, window_block_indices=[0, 2], use_relative_position_embeddings=True, mlp_ratio=2)
WINDOW_TOWERS = {
    "SAM": _tower("SamVisionModel", "SamVisionConfig", mlp_dim=2 * DIM, output_channels=8, **SAM),
    "SAM-HQ": _tower("SamHQVisionModel", "SamHQVisionConfig", mlp_dim=2 * DIM, output_channels=8, **SAM),
    "SAM 3": _tower("Sam3ViTModel", "Sam3ViTConfig", pretrain_image_size=SIDE, **SAM),
    "ViTDet": _tower("VitDetModel", "VitDetConfig", residual_block_indices=[1], **VITDET),
}
SWIN = dict(embed_dim=24, depths=[1], num_heads=[3], window_size=3)
NO_TOWERS = {
    "SAM 2 (Hiera)": _no_tower("Sam2HieraDetModel", "Sam2HieraDetConfig"),
    "Swin": _no_tower("SwinModel", "SwinConfig", **SWIN),
    "Swin v2": _no_tower("Swinv2Model", "Swinv2Config", **SWIN),
    "Hiera": _no_tower("HieraModel", "HieraConfig"),
}
TRANSFORMERS = {**TOWERS, **WINDOW_TOWERS, **NO_TOWERS}
