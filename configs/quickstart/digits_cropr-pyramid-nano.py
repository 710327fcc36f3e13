# Fine-tunes it with Cropr; all tokens come back before the last block.
_base_ = './digits_vit-pyramid-nano.py'

model = dict(backbone=dict(reducer=dict(type='Cropr', keep_ratio=[0.6, 0.35, 0.2, 0.1], num_classes=10)))
load_from = 'work_dirs/digits_vit-pyramid-nano/epoch_5.pth'
optim_wrapper = dict(optimizer=dict(lr=1.5e-4), paramwise_cfg=dict(custom_keys=dict(reducer=dict(lr_mult=6.0))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=10),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=1, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=1, val_interval=1)
