# ViT-Adapter's published recipe for DINOv2 at size S: patch 14 resampled to 16, windows in two of three blocks, no
# class token, and layer decay, without which these weights lose two points. 8 GPUs x 2 images.
_base_ = "./vit-adapter-s-3x.py"

model = dict(
    backbone=dict(
        model_name="vit_small_patch14_dinov2",
        patch_size=16,
        img_size=592,
        class_token=False,
        window_attn=[True, True, False] * 4,
        window_size=14,
        init_cfg=dict(checkpoint="timm"),
    )
)
optim_wrapper = dict(
    constructor="LayerDecayOptimWrapperConstructor", paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.7)
)
