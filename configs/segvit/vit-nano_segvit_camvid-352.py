# Nano SegViT from scratch: minutes on two CPU cores.
_base_ = [
    "../_base_/models/segvit.py",
    "../_base_/datasets/camvid.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime_segmentation.py",
]

_head = dict(type="SegViTHead", in_channels=96, channels=48, num_classes=11, layers_per_decoder=2, num_heads=3)
model = dict(
    data_preprocessor=dict(size=(352, 352)),
    backbone=dict(img_size=352, embed_dim=96, depth=6, num_heads=3, drop_path_rate=0.0, out_indices=[2, 3, 5]),
    auxiliary_head=[dict(in_index=0, **_head), dict(in_index=1, **_head)],
    decode_head=dict(in_index=2, **_head),
    test_cfg=dict(_delete_=True, mode="whole"),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=60, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=60, val_interval=10)
default_hooks = dict(logger=dict(interval=15))
