# 4 GPUs x 4 images.
_base_ = [
    "../_base_/models/linear_vit.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/recipe_ade20k_160k.py",
    "../_base_/runtimes/runtime_by_iteration.py",
]

model = dict(
    backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="pretrained/deit_base_patch16_224-b5f2ef4d.pth"))
)
