# Size T on real photographs at about 800 pixels, from the digit detector that comes with the project; the first epochs
# see small images. About half an hour on two CPU cores with instructions for bfloat16.
_base_ = [
    "../_base_/models/mask_rcnn_vit_adapter_light.py",
    "../_base_/datasets/pennfudan_800.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)))
load_from = "configs/quickstart/weights/digits_vit-adapter-t.safetensors"
_pipeline = _base_.train_dataloader.dataset.pipeline
_pipeline[3].scales = [(1344, short) for short in range(320, 801, 96)]
train_dataloader = dict(batch_size=2, num_workers=1, dataset=dict(pipeline=_pipeline))
optim_wrapper = dict(type="AmpOptimWrapper", dtype="bfloat16", optimizer=dict(lr=3e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=16, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=16, val_interval=16)
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(checkpoint=dict(interval=16), logger=dict(interval=20))
