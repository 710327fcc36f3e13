# The dense model trained for as long as the pruned ones: shows what the further epochs alone are worth.
_base_ = "./vit-nano_segvit_camvid-352.py"

load_from = "work_dirs/vit-nano_segvit_camvid-352/epoch_60.pth"
optim_wrapper = dict(optimizer=dict(lr=3e-4), paramwise_cfg=dict(custom_keys=dict(reducer=dict(lr_mult=3.0))))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=15),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=20, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=20)
