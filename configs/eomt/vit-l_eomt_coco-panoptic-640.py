# EoMT-L on COCO panoptic, 12 epochs. 4 GPUs x 4 images.
_base_ = [
    "../_base_/models/eomt_panoptic.py",
    "../_base_/datasets/coco_panoptic_640.py",
    "../_base_/schedules/recipe_eomt.py",
    "../_base_/runtimes/runtime.py",
]

param_scheduler = [dict(type="EoMTLR", head_warmup=500, encoder_warmup=1000, end=88716)]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=12)
custom_hooks = _base_.custom_hooks + [
    dict(type="MaskAnnealingHook", start=[14782, 29564, 44346, 59128], end=[29564, 44346, 59128, 73910])
]
