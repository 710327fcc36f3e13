# First stage of the weights in weights/: from scratch on scenes of 256 px, which cost a tenth, at a constant rate.
# Data: tools/dataset_converters/digit_scenes.py data/digit_scenes_256 --train 4000
_base_ = [
    "../_base_/models/mask_rcnn_vit_adapter_light.py",
    "../_base_/datasets/digit_scenes.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime.py",
]

model = dict(backbone=dict(img_size=256))
data_root = "data/digit_scenes_256/"
train_dataloader = dict(batch_size=4, dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "annotations/instances_val.json")
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=7e-4))
param_scheduler = [dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100)]
train_cfg = dict(max_epochs=1, val_interval=1)
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=20))
