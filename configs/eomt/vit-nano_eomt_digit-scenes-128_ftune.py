# The dense control of the fine-tuned configs: one more epoch without masked attention.
_base_ = "./vit-nano_eomt_digit-scenes-128.py"

load_from = "work_dirs/vit-nano_eomt_digit-scenes-128/epoch_3.pth"
optim_wrapper = dict(optimizer=dict(lr=3e-4))
param_scheduler = [
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=1, eta_min=1e-6, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=1, val_interval=1)
custom_hooks = _base_.custom_hooks[:-1]
