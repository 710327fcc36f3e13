# Nobody comes back: the map has the last value of every token.
_base_ = "./vit-nano-cropr_linear_camvid-352.py"

model = dict(backbone=dict(reducer=dict(keep_ratio=[0.7, 0.6, 0.45, 0.35, 0.3], fusion=False)))
