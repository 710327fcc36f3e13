# Size B; 8 GPUs x 2 images.
_base_ = "./vit-adapter-s_dinov2.py"

model = dict(
    backbone=dict(
        model_name="vit_base_patch14_dinov2",
        embed_dim=768,
        num_heads=12,
        drop_path_rate=0.3,
        deform_num_heads=12,
        deform_ratio=0.5,
    ),
    neck=dict(in_channels=[768, 768, 768, 768]),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.6))
