# 4 GPUs x 4 images.
_base_ = [
    "../_base_/models/segvit_l.py",
    "../_base_/datasets/ade20k_640.py",
    "../_base_/schedules/recipe_segvit.py",
    "../_base_/runtimes/runtime_by_iteration.py",
]
