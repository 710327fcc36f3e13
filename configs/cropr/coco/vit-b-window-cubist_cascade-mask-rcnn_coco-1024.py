# CubistMerge in windows: three of the 14 rows and columns of each window go before block 1. Trained like the dense one.
_base_ = "./vit-b-window_cascade-mask-rcnn_coco-1024.py"

model = dict(backbone=dict(reducer=dict(type="CubistMerge", r=3, window_size=14)))
