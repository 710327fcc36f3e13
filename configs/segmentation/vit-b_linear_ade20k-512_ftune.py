# The dense model trained on as the pruned ones are: shows what the further iterations alone are worth.
_base_ = "./vit-b_linear_ade20k-512.py"

model = dict(backbone=dict(init_cfg=None))
load_from = "work_dirs/vit-b_linear_ade20k-512/iter_160000.pth"
optim_wrapper = dict(optimizer=dict(lr=1e-5))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=500, end=16000),
]
train_cfg = dict(max_iters=16000, val_interval=4000)
default_hooks = dict(checkpoint=dict(interval=4000))
