# SViT on the trained dense model, four epochs; all blocks are global, so that each can be pruned.
_base_ = "./vit-adapter-s_dinov2.py"

model = dict(
    backbone=dict(
        window_attn=None,
        init_cfg=None,
        reducer=dict(
            type="SViT",
            blocks=[3, 4, 5, 6, 7, 8, 9, 10, 11],
            keep_ratio=[0.7] * 3 + [0.49] * 3 + [0.343] * 3,
            ratio_loss_weight=4.0,
        ),
    )
)
load_from = "work_dirs/vit-adapter-s_dinov2/epoch_36.pth"
optim_wrapper = dict(optimizer=dict(lr=1e-5, weight_decay=1e-6))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=4, milestones=[3], gamma=0.1),
]
train_cfg = dict(max_epochs=4)
