# Fine-tunes the pruning and pooling model from the dense one. r and threshold are the published ones, 50 and 7e-5 at
# 197 tokens, for the 1025 of a crop: r grows with the tokens, the variance of scores falls with their square.
_base_ = "./vit-b_linear_ade20k-512.py"

model = dict(backbone=dict(init_cfg=None, reducer=dict(type="PPT", r=260, blocks=[3, 6, 9], threshold=2.6e-6)))
load_from = "work_dirs/vit-b_linear_ade20k-512/iter_160000.pth"
optim_wrapper = dict(optimizer=dict(lr=1e-5))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=500, end=16000),
]
train_cfg = dict(max_iters=16000, val_interval=4000)
default_hooks = dict(checkpoint=dict(interval=4000))
