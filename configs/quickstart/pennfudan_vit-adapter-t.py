# Size T from scratch; needs a GPU (about 7,000 steps of 8 images).
_base_ = [
    "../_base_/models/mask_rcnn_vit_adapter.py",
    "../_base_/datasets/pennfudan.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime.py",
]

_group_norm = dict(type="GN", num_groups=32)
model = dict(
    backbone=dict(norm_cfg=_group_norm),
    neck=dict(norm_cfg=_group_norm),
    roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1, norm_cfg=_group_norm)),
)
train_dataloader = dict(batch_size=8, num_workers=4)
optim_wrapper = dict(optimizer=dict(lr=3e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=480, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=480, val_interval=40)
default_hooks = dict(checkpoint=dict(interval=40))
