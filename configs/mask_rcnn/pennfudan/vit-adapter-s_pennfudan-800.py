# Size S from DINOv2 weights at 800 pixels; trains in minutes on one GPU in bf16.
_base_ = [
    "../../_base_/models/mask_rcnn_vit_adapter.py",
    "../../_base_/datasets/pennfudan_800.py",
    "../../_base_/schedules/recipe_from_scratch.py",
    "../../_base_/runtimes/runtime.py",
]

_group_norm = dict(type="GN", num_groups=32)
model = dict(
    backbone=dict(
        img_size=592,
        embed_dim=384,
        num_heads=6,
        drop_path_rate=0.1,
        layer_scale=True,
        norm_cfg=_group_norm,
        init_cfg=dict(type="Pretrained", checkpoint="pretrained/vit_small_patch14_dinov2_focus.safetensors"),
    ),
    neck=dict(in_channels=[384, 384, 384, 384], norm_cfg=_group_norm),
    roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1, norm_cfg=_group_norm)),
)
optim_wrapper = dict(type="AmpOptimWrapper", dtype="bfloat16", optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=32, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=32, val_interval=32)
default_hooks = dict(checkpoint=dict(interval=32), logger=dict(interval=15))
