# Without fusion: removed tokens do not return, and the map has their last value.
_base_ = "./vit-nano-cropr_linear_camvid-352.py"

model = dict(backbone=dict(reducer=dict(keep_ratio=[0.7, 0.6, 0.45, 0.35, 0.3], fusion=False)))
