# Nobody comes back: 12 tokens are left, and pooled.
_base_ = "./vit-l-cropr_imagenet.py"

model = dict(backbone=dict(reducer=dict(fusion=False)))
