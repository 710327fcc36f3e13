# Random: fine-tunes the nano segmentor from the dense one.
_base_ = "./vit-nano_linear_camvid-352_ftune.py"

model = dict(backbone=dict(reducer=dict(type="Random", blocks=[2, 3, 4, 5], keep_ratio=[0.7, 0.6, 0.5, 0.4])))
