_base_ = "../digits_vit-pyramid-nano_ftune.py"

model = dict(backbone=dict(reducer=dict(type="EViT", blocks=[1, 3], keep_ratio=0.55, score="representation_shift")))
