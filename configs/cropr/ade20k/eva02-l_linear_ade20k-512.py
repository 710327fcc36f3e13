# Dense. Total batch 8.
_base_ = ["../../_base_/models/eva02_linear.py", "../../_base_/schedules/recipe_cropr_ade20k.py"]

model = dict(
    backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="pretrained/eva02_large_patch14_224.mim_m38m.pth"))
)
