# Dense nano segmentor from scratch: minutes on two CPU cores. The class token is there for the methods that need it,
# so that all of them start from these weights.
_base_ = [
    "../_base_/models/linear_vit.py",
    "../_base_/datasets/camvid.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime_segmentation.py",
]

model = dict(
    data_preprocessor=dict(size=(352, 352)),
    backbone=dict(img_size=352, embed_dim=96, depth=6, num_heads=3, drop_path_rate=0.0),
    decode_head=dict(in_channels=96, channels=96, num_classes=11),
    test_cfg=dict(_delete_=True, mode="whole"),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=60, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=60, val_interval=10)
default_hooks = dict(logger=dict(interval=15))
