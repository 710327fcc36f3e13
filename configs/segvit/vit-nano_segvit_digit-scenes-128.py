# Nano SegViT from scratch on data that needs no download: two minutes on one CPU core.
_base_ = [
    "../_base_/models/segvit.py",
    "../_base_/datasets/digit_scenes_segmentation.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime_segmentation.py",
]

_head = dict(type="SegViTHead", in_channels=96, channels=48, num_classes=2, layers_per_decoder=2, num_heads=3)
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        img_size=128, patch_size=8, embed_dim=96, depth=6, num_heads=3, drop_path_rate=0.0, out_indices=[2, 3, 5]
    ),
    auxiliary_head=[dict(in_index=0, **_head), dict(in_index=1, **_head)],
    decode_head=dict(in_index=2, **_head),
    test_cfg=dict(_delete_=True, mode="whole"),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=3, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=3, val_interval=3)
default_hooks = dict(logger=dict(interval=25))
