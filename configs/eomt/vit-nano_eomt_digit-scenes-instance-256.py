# Nano EoMT from scratch on data that needs no download, instances of one class: 16 epochs, some 20 minutes on one CPU
# core. Masked attention fades late: before that, the masks are too poor to do without.
_base_ = [
    "../_base_/models/eomt_nano.py",
    "../_base_/datasets/digit_objects.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime.py",
]

_classes = dict(num_things_classes=1, num_stuff_classes=0)
model = dict(
    data_preprocessor=dict(pad_seg=False),
    panoptic_head=_classes,
    panoptic_fusion_head=_classes,
    test_cfg=dict(panoptic_on=False),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=16, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=16, val_interval=4)
default_hooks = dict(logger=dict(interval=25))
custom_hooks = _base_.custom_hooks + [dict(type="MaskAnnealingHook", start=[600, 1100], end=[1100, 1600])]
