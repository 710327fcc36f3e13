_base_ = "../digits_vit-pyramid-nano_ftune.py"

model = dict(backbone=dict(reducer=dict(type="Random", blocks=[2, 3, 4, 5], keep_ratio=[0.4, 0.35, 0.3, 0.2])))
