# 8 tokens are removed after each block but the last two, 20 of 197 remain; all return before the last block.
_base_ = "./vit-l_imagenet.py"

model = dict(backbone=dict(output="kept", reducer=dict(type="Cropr", r=8, num_classes=1000)))
