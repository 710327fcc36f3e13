# Size S at 720 x 960: SETR's heads after three stages of the trained linear segmentor, whose ViT stays as it is; ten
# minutes on two CPU cores.
_base_ = [
    "../_base_/models/segvit.py",
    "../_base_/datasets/camvid_720.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime_segmentation.py",
]

_head = dict(type="MLPHead", in_channels=384, channels=256, num_classes=11, num_layers=2, mlp_ratio=1)
model = dict(
    data_preprocessor=dict(size=(480, 480), mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        img_size=592,
        embed_dim=384,
        num_heads=6,
        drop_path_rate=0.0,
        layer_scale=True,
        class_token=True,
        frozen=True,
    ),
    auxiliary_head=[dict(in_index=0, **_head), dict(in_index=1, **_head)],
    decode_head=dict(_delete_=True, in_index=2, **_head),
    test_cfg=dict(_delete_=True, mode="whole"),
)
load_from = "work_dirs/vit-s_linear_ftune/epoch_20.pth"
_pipeline = _base_.train_pipeline
_pipeline[3].crop_size = (480, 480)
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=_pipeline))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=8, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=8, val_interval=8)
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(checkpoint=dict(interval=8), logger=dict(interval=10))
