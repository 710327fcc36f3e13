# Five more epochs of the dense model: the reference for the pruned models, which start from the same weights.
_base_ = "./deit-nano_digits.py"

load_from = "work_dirs/deit-nano_digits/epoch_40.pth"
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(custom_keys={"backbone.reducer": dict(lr_mult=10.0)}))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=5, val_interval=5)
