# ToMe, trained with it from DINOv2 on; a crop of 1024 tokens ends with 448.
_base_ = "./vit-adapter-s_dinov2_upernet_ade20k-512.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=48)))
