# The same number of tokens is removed after each block but the last two, 3 % remain; all return before the last
# block.
_base_ = "./eva02-l_cascade-mask-rcnn_coco-1024.py"

model = dict(backbone=dict(reducer=dict(type="Cropr", keep_ratio=0.03, num_classes=80)))
