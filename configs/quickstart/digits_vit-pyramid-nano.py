# Dense nano ViTDet from scratch: a plain ViT, a feature pyramid made from its last map, Cascade Mask R-CNN.
_base_ = [
    "../_base_/models/cascade_mask_rcnn_nano.py",
    "../_base_/datasets/digit_scenes.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime.py",
]

default_hooks = dict(logger=dict(interval=25))
