# 50 tokens are removed after the sixth, twelfth and eighteenth block.
_base_ = "./vit-l-cropr_imagenet.py"

model = dict(backbone=dict(reducer=dict(r=50, prune_after=[5, 11, 17])))
