# 4 GPUs x 4 pictures.
_base_ = [
    '../_base_/segvit_l.py', '../_base_/ade20k_640.py', '../_base_/recipe_segvit.py',
    '../_base_/runtime_by_iteration.py'
]
