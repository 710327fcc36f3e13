# The dense ViTDet at about 800 pixels, trained for as long as the pruned ones.
_base_ = "./pennfudan_vit-pyramid-t.py"

load_from = "work_dirs/pennfudan_vit-pyramid-t/epoch_10.pth"
_pipeline = _base_.train_dataloader.dataset.pipeline
_pipeline[3].scales = [(1344, short) for short in range(640, 801, 32)]
train_dataloader = dict(dataset=dict(pipeline=_pipeline))
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(custom_keys=dict(reducer=dict(lr_mult=5.0))))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=10),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=2, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2))
