# 16 tokens leave after each block but the last two, 36 of 197 are left: as many in half as many blocks.
_base_ = "./vit-b_imagenet.py"

model = dict(backbone=dict(output="kept", reducer=dict(type="Cropr", r=16, num_classes=1000)))
