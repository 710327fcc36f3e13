# EViT by representation shift instead of class attention; needs no class token.
_base_ = "./vit-s_linear_ftune.py"

model = dict(backbone=dict(reducer=dict(type="EViT", blocks=[3, 6, 9], keep_ratio=0.7, score="representation_shift")))
