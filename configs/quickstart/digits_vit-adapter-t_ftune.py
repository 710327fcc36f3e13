# The dense model trained for as long as the pruned one: shows what the further steps alone are worth.
_base_ = "./digits_vit-adapter-t.py"

load_from = "configs/quickstart/weights/digits_vit-adapter-t.safetensors"
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(custom_keys=dict(reducer=dict(lr_mult=5.0))))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=10),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=1, eta_min=1e-6, convert_to_iter_based=True),
]
