# One epoch of fine-tuning at about half of the blocks' multiply-adds; the other methods inherit the recipe.
_base_ = './digits_vit-plain-nano.py'

model = dict(backbone=dict(reducer=dict(type='Random', blocks=[2, 3, 4, 5], keep_ratio=[0.43, 0.37, 0.31, 0.25])))
load_from = 'work_dirs/digits_vit-plain-nano/epoch_4.pth'
optim_wrapper = dict(optimizer=dict(lr=1.5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=10),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=1, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=1, val_interval=1)
