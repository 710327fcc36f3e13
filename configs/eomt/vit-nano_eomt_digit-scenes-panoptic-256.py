# Nano EoMT from scratch on data that needs no download, panoptic: digits on their background, 16 epochs, some 20
# minutes on one CPU core.
_base_ = [
    "../_base_/models/eomt_nano.py",
    "../_base_/datasets/digit_panoptic.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime.py",
]

_classes = dict(num_things_classes=1, num_stuff_classes=1)
model = dict(
    panoptic_head=_classes,
    panoptic_fusion_head=_classes,
    test_cfg=dict(object_mask_thr=0.5),  # a model of this size is seldom as sure as 0.8
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=16, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=16, val_interval=4)
default_hooks = dict(logger=dict(interval=25))
custom_hooks = _base_.custom_hooks + [dict(type="MaskAnnealingHook", start=[600, 1100], end=[1100, 1600])]
