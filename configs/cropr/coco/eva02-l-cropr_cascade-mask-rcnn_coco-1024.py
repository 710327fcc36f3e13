# Equally many leave after each block but the last two, 3 % are left; all come back before the last.
_base_ = "./eva02-l_cascade-mask-rcnn_coco-1024.py"

model = dict(backbone=dict(reducer=dict(type="Cropr", keep_ratio=0.03, num_classes=80)))
