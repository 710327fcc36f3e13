# Third stage of the weights in weights/: at full size, the learning rate goes to zero.
_base_ = [
    "../_base_/models/mask_rcnn_vit_adapter_light.py",
    "../_base_/datasets/digit_scenes_640.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime.py",
]

load_from = "work_dirs/digits_vit-adapter-t_256-decay/epoch_1.pth"
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=10),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=1, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=1, val_interval=1)
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(logger=dict(interval=10))
