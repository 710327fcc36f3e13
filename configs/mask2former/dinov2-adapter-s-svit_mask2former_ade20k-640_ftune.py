# SViT on the trained dense model, a tenth of its steps at a tenth of its learning rate.
_base_ = "./dinov2-adapter-s_mask2former_ade20k-640.py"

model = dict(
    backbone=dict(
        init_cfg=None,
        reducer=dict(
            type="SViT",
            blocks=[3, 4, 5, 6, 7, 8, 9, 10, 11],
            keep_ratio=[0.7] * 3 + [0.49] * 3 + [0.343] * 3,
            ratio_loss_weight=4.0,
        ),
    )
)
load_from = "work_dirs/dinov2-adapter-s_mask2former_ade20k-640/iter_160000.pth"
optim_wrapper = dict(optimizer=dict(lr=2e-6, weight_decay=1e-6))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=500, end=16000),
]
train_cfg = dict(max_iters=16000)
