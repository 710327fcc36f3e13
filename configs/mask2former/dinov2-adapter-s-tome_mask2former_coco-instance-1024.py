# ToMe, trained with it from DINOv2 on; a crop of 4096 tokens ends with 52 %.
_base_ = "./dinov2-adapter-s_mask2former_coco-instance-1024.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=0.04)))
