# The dense model trained for as long as the pruned ones: shows what the further epochs alone are worth.
_base_ = "./digits_vit-pyramid-nano.py"

load_from = "work_dirs/digits_vit-pyramid-nano/epoch_5.pth"
optim_wrapper = dict(optimizer=dict(lr=1.5e-4), paramwise_cfg=dict(custom_keys=dict(reducer=dict(lr_mult=6.0))))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=10),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=2, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=2, val_interval=2)
