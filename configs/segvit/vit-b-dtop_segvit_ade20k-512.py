# Fine-tunes from the dense one; confident tokens exit after blocks 5 and 7. 4 GPUs x 4 images.
_base_ = "./vit-b_segvit_ade20k-512.py"

model = dict(backbone=dict(init_cfg=None, reducer=dict(type="DToP", stages=[5, 7], threshold=0.90)))
load_from = "work_dirs/vit-b_segvit_ade20k-512/iter_160000.pth"
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, begin=1500, end=40000),
]
train_cfg = dict(max_iters=40000, val_interval=4000)
default_hooks = dict(checkpoint=dict(interval=4000))
