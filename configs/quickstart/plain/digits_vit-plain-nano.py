# No adapter: all four maps are made of the last block's, so that what the blocks compute matters. Starts from the
# adapter's trunk and heads.
_base_ = '../digits_vit-adapter-nano.py'

model = dict(
    backbone=dict(
        _delete_=True, type='ViTBaseline', img_size=256, embed_dim=96, depth=6, num_heads=3, out_indices=[5]))
load_from = 'work_dirs/digits_vit-adapter-nano/epoch_5.pth'
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=4, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=4, val_interval=2)
