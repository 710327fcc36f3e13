# PiToMe: tokens with many similar ones are merged in every block.
_base_ = "./vit-s_linear_ftune.py"

model = dict(backbone=dict(reducer=dict(type="PiToMe", keep_ratio=0.9)))
