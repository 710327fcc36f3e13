# Dense nano detector from scratch: about eight minutes on two CPU cores.
_base_ = [
    "../_base_/models/mask_rcnn_nano.py",
    "../_base_/datasets/digit_scenes.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime.py",
]

default_hooks = dict(logger=dict(interval=25))
