# PiToMe, fine-tuned from the dense model; a crop of 1024 tokens ends with 559.
_base_ = "./vit-s_linear_ade20k-512_ftune.py"

model = dict(backbone=dict(reducer=dict(type="PiToMe", keep_ratio=0.95)))
