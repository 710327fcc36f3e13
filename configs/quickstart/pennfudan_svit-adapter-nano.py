# Fine-tunes the pruned pedestrian detector from the dense one.
_base_ = "./pennfudan_vit-adapter-nano.py"

model = dict(
    backbone=dict(
        norm_eps=1e-5,
        reducer=dict(type="SViT", blocks=[2, 3, 4, 5], keep_ratio=[0.7, 0.6, 0.5, 0.4], ratio_loss_weight=4.0),
    )
)
load_from = "work_dirs/pennfudan_vit-adapter-nano/epoch_12.pth"
optim_wrapper = dict(optimizer=dict(lr=3e-4), paramwise_cfg=dict(custom_keys=dict(reducer=dict(lr_mult=3.0))))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=10),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=4, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=4, val_interval=4)
