# Without fusion: removed tokens do not return; the 12 remaining tokens are pooled.
_base_ = "./vit-l-cropr_imagenet.py"

model = dict(backbone=dict(reducer=dict(fusion=False)))
