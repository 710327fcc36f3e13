# PiToMe: fine-tunes the nano segmentor from the dense one.
_base_ = "./vit-nano_linear_camvid-352_ftune.py"

model = dict(backbone=dict(reducer=dict(type="PiToMe", keep_ratio=0.92)))
