# EoMT-L on COCO instances, 12 epochs. 4 GPUs x 4 images.
_base_ = [
    "../_base_/models/eomt_panoptic.py",
    "../_base_/datasets/coco_instance_640.py",
    "../_base_/schedules/recipe_eomt.py",
    "../_base_/runtimes/runtime.py",
]

model = dict(
    data_preprocessor=dict(pad_seg=False),
    panoptic_head=dict(num_stuff_classes=0),
    panoptic_fusion_head=dict(num_stuff_classes=0),
    test_cfg=dict(panoptic_on=False),
)
val_evaluator = dict(metric="segm")
test_evaluator = val_evaluator
param_scheduler = [dict(type="EoMTLR", head_warmup=500, encoder_warmup=1000, end=88716)]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=12)
custom_hooks = _base_.custom_hooks + [
    dict(type="MaskAnnealingHook", start=[14782, 29564, 44346, 59128], end=[29564, 44346, 59128, 73910])
]
