# Size T on real photographs, from the digit detector that comes with the project: at low resolution first, which takes
# about twenty minutes on two CPU cores.
_base_ = [
    "../_base_/models/mask_rcnn_vit_adapter_light.py",
    "../_base_/datasets/pennfudan_800.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)))
load_from = "configs/quickstart/weights/digits_vit-adapter-t.safetensors"
_pipeline = _base_.train_dataloader.dataset.pipeline
_pipeline[3].scales = [(1344, short) for short in range(256, 513, 64)]
train_dataloader = dict(batch_size=2, num_workers=1, dataset=dict(pipeline=_pipeline))
optim_wrapper = dict(optimizer=dict(lr=3e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=10, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=10, val_interval=10)
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(checkpoint=dict(interval=10), logger=dict(interval=20))
