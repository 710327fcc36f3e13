# 16 tokens are removed after each block but the last two, 36 of 197 remain: twice as many per block as in ViT-L,
# which has twice the blocks.
_base_ = "./vit-b_imagenet.py"

model = dict(backbone=dict(output="kept", reducer=dict(type="Cropr", r=16, num_classes=1000)))
