# The dense model trained for as long as the pruned ones: shows what the further epochs alone are worth.
_base_ = "./vit-adapter-s_pennfudan-800.py"

model = dict(backbone=dict(init_cfg=None))
load_from = "work_dirs/vit-adapter-s_pennfudan-800/epoch_32.pth"
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=dict(custom_keys=dict(reducer=dict(lr_mult=3.0))))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=15),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=8, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=8, val_interval=8)
default_hooks = dict(checkpoint=dict(interval=8))
