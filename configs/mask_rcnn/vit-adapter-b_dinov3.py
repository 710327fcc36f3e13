# Size B; 8 GPUs x 2 images.
_base_ = "./vit-adapter-s_dinov3.py"

model = dict(
    backbone=dict(
        model_name="vit_base_patch16_dinov3", embed_dim=768, num_heads=12, deform_num_heads=12, deform_ratio=0.5
    ),
    neck=dict(in_channels=[768, 768, 768, 768]),
)
