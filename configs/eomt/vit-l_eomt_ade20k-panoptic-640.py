# EoMT-L on ADE20K panoptic, 31 epochs, from the model of COCO panoptic without its class head. 4 GPUs x 4 images.
_base_ = [
    "../_base_/models/eomt_panoptic.py",
    "../_base_/datasets/ade20k_panoptic_640.py",
    "../_base_/schedules/recipe_eomt.py",
    "../_base_/runtimes/runtime.py",
]

_classes = dict(num_things_classes=100, num_stuff_classes=50)
model = dict(backbone=dict(init_cfg=None), panoptic_head=_classes, panoptic_fusion_head=_classes)
load_from = "work_dirs/vit-l_eomt_coco-panoptic-640/epoch_12.pth"
param_scheduler = [dict(type="EoMTLR", head_warmup=500, encoder_warmup=1000, end=39184)]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=31)
custom_hooks = _base_.custom_hooks + [
    dict(type="MaskAnnealingHook", start=[6520, 13040, 19560, 26080], end=[13040, 19560, 26080, 32600])
]
