_base_ = "../digits_vit-pyramid-nano_ftune.py"

model = dict(backbone=dict(reducer=dict(type="MPM", merges=2)))
