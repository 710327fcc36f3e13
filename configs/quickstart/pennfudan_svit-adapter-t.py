# Fine-tunes the pruned size T from the dense one, with the published ratios.
_base_ = "./pennfudan_vit-adapter-t.py"

model = dict(
    backbone=dict(
        norm_eps=1e-5,
        reducer=dict(
            type="SViT",
            blocks=[3, 4, 5, 6, 7, 8, 9, 10, 11],
            keep_ratio=[0.7] * 3 + [0.49] * 3 + [0.343] * 3,
            ratio_loss_weight=4.0,
        ),
    )
)
load_from = "work_dirs/pennfudan_vit-adapter-t/epoch_480.pth"
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=dict(custom_keys=dict(reducer=dict(lr_mult=3.0))))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=80, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=80, val_interval=40)
