_base_ = "../digits_vit-pyramid-nano_ftune.py"

model = dict(backbone=dict(reducer=dict(type="PiToMe", keep_ratio=0.8)))
