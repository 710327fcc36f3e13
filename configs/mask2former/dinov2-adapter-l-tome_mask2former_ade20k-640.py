# ToMe, trained with it from DINOv2 on; a crop of 1600 tokens ends with 52 %.
_base_ = "./dinov2-adapter-l_mask2former_ade20k-640.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=0.02)))
