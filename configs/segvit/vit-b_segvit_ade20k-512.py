# 4 GPUs x 4 images. The weights are OpenMMLab's conversion of the AugReg ViT, trained at 384.
_base_ = [
    "../_base_/models/segvit.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/recipe_segvit.py",
    "../_base_/runtimes/runtime_by_iteration.py",
]

model = dict(
    backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="pretrained/vit_base_p16_384_20220308-96dfe169.pth"))
)
