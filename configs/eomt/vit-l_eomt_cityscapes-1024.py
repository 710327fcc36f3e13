# EoMT-L on Cityscapes, semantic, 107 epochs. 4 GPUs x 4 images.
_base_ = [
    "../_base_/models/eomt_semantic.py",
    "../_base_/datasets/cityscapes_1024.py",
    "../_base_/schedules/recipe_eomt.py",
    "../_base_/runtimes/runtime_by_iteration.py",
]

model = dict(data_preprocessor=dict(size=(1024, 1024)), backbone=dict(img_size=1024), decode_head=dict(num_classes=19))
param_scheduler = [dict(type="EoMTLR", head_warmup=500, encoder_warmup=1000, end=19902)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=19902, val_interval=2000)
custom_hooks = _base_.custom_hooks + [
    dict(type="MaskAnnealingHook", start=[3317, 6634, 9951, 13268], end=[6634, 9951, 13268, 16585])
]
