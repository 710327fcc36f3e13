# The dense model trained for as long as the pruned ones: shows what the further epoch alone is worth.
_base_ = "./vit-nano_segvit_digit-scenes-128.py"

load_from = "work_dirs/vit-nano_segvit_digit-scenes-128/epoch_3.pth"
optim_wrapper = dict(optimizer=dict(lr=3e-4), paramwise_cfg=dict(custom_keys=dict(reducer=dict(lr_mult=3.0))))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=25),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=1, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=1, val_interval=1)
