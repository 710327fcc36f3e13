# CubistMerge: a fifth of the rows and of the columns goes before block 1.
_base_ = "./vit-s_linear_ftune.py"

model = dict(backbone=dict(reducer=dict(type="CubistMerge", r=0.2)))
