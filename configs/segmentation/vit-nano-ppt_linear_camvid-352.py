# Fine-tunes the pruning and pooling nano segmentor from the dense one.
_base_ = './vit-nano_linear_camvid-352.py'

model = dict(backbone=dict(reducer=dict(type='PPT', r=120, blocks=[2, 4], threshold=2.8, relative=True)))
load_from = 'work_dirs/vit-nano_linear_camvid-352/epoch_60.pth'
optim_wrapper = dict(optimizer=dict(lr=3e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=15),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=20, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=20)
