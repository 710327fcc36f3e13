# Nano EoMT from scratch on data that needs no download, semantic: minutes on one CPU core.
_base_ = [
    "../_base_/models/eomt_semantic.py",
    "../_base_/datasets/digit_scenes_segmentation.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime_segmentation.py",
]

model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        model_name="vit_small_patch14_reg4_dinov2",
        img_size=128,
        patch_size=8,
        embed_dim=96,
        depth=6,
        num_heads=3,
        model_args=dict(init_values=1.0),
        num_queries=10,
        query_blocks=2,
        init_cfg=None,
    ),
    decode_head=dict(in_channels=96, num_classes=2, num_queries=10, patch_size=8, num_points=3136),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=3, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=3, val_interval=3)
default_hooks = dict(logger=dict(interval=25))
custom_hooks = _base_.custom_hooks + [dict(type="MaskAnnealingHook", start=[100, 150], end=[150, 250])]
