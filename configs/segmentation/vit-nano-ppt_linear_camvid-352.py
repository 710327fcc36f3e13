# PPT: fine-tunes the nano segmentor from the dense one.
_base_ = "./vit-nano_linear_camvid-352_ftune.py"

model = dict(backbone=dict(reducer=dict(type="PPT", r=120, blocks=[2, 4], threshold=2.8, relative=True)))
