# Starts from the digit detector: trains on real photographs in minutes on two CPU cores.
_base_ = [
    "../_base_/models/mask_rcnn_nano.py",
    "../_base_/datasets/pennfudan.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)))
load_from = "work_dirs/digits_vit-adapter-nano/epoch_5.pth"
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=12, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=12, val_interval=12)
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=10))
